// Runs the threads of a block in turns on one OS thread, and lets them meet: at barriers, in warps.
// A meeting that some thread never comes to ends the program with one line that says where.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "emulation/device_threads.h"
#include "emulation/fiber.h"
#include "emulation/vector_types.h"

namespace cuda_emulation {

/// Runs all blocks of a grid, one after the other, on the calling OS thread.
void run_grid(dim3 grid, dim3 block, const std::function<void()>& thread);

enum class State : uint8_t { kUnstarted, kRuns, kAtBarrier, kInWarp, kEnded };

/// A thread of a block; its index in it is its place in Block::threads_.
struct Thread {
  uint3 index{};  ///< threadIdx
  State state = State::kUnstarted;
  Fiber* fiber = nullptr;     ///< while it has started and not ended
  const char* waits_in = "";  ///< the function, and below where it was called
  Place place;
  uint32_t mask = 0;    ///< kInWarp: the lanes it waits for
  uint64_t brings = 0;  ///< to a meeting of the warp, and below the lane it wants the value of
  int source = 0;
  uint64_t takes = 0;
};

/// A meeting of some lanes that not all have come to. Lanes of one warp can be in several.
struct Gathering {
  uint32_t mask = 0;
  uint32_t arrived = 0;
  Place place;
};

struct Warp {
  uint32_t lanes = 0;    ///< that exist
  uint32_t ready = 0;    ///< can go on
  uint32_t yielded = 0;  ///< can go on, after the others
  std::vector<Gathering> gatherings;
};

/// The block that an OS thread runs.
class Block {
 public:
  Block() : fibers_(&Block::fiber_body) {}
  /// The block that runs on this OS thread, or null.
  static Block*& running();

  /// `reversed`: the last thread goes first, so that a missing barrier shows, whichever side wins.
  void run(dim3 size, bool reversed, const std::function<void()>& thread);

  // What the thread that runs calls:
  Votes meet_block(const char* name, bool vote, Place place);
  uint64_t meet_warp(WarpMeeting meeting);
  void yield();
  int lane() const { return lane_; }

 private:
  static void fiber_body();
  void run_threads();
  void start(dim3 size);
  void number_threads(dim3 size);
  void make_current(Thread& thread);
  /// The thread to go on with, which becomes the current one but for make_current(); null where all
  /// have ended. Never null while one waits.
  Thread* next();
  /// Nobody of the warp whose turn it was can go on.
  bool next_turn();
  void wait_for_turn();
  void open_barrier();
  Gathering& gathering(Place place, uint32_t mask);
  void finish(Exchange exchange, bool is_signed, uint32_t mask);
  int current_number() const { return static_cast<int>(current_ - threads_.data()); }
  void refuse(Place place, const char* name, const char* why) const;

  Fibers fibers_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  const std::function<void()>* body_ = nullptr;
  dim3 size_{0, 0, 0};
  Thread* current_ = nullptr;
  Warp* warp_ = nullptr;  ///< of the current thread
  int lane_ = 0;          ///< likewise
  bool reversed_ = false;
  size_t turn_ = 0;  ///< the warp whose threads go on, counted in this block's order
  int ended_ = 0;
  int at_barrier_ = 0;
  int in_favour_ = 0;  ///< votes of those at the barrier
  Votes votes_;        ///< of the barrier that was opened last
};

inline bool same_place(const Place& a, const Place& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}
/// "0-31, 40"
std::string ranges(const std::vector<int>& sorted);
/// Where the block stands, thread by thread, in one line on stderr; then abort().
[[noreturn]] void report_stuck(const std::vector<Thread>& threads);
/// One line on stderr that begins with the place; then abort().
[[noreturn]] void report(const Place& place, const std::string& what);

}  // namespace cuda_emulation
