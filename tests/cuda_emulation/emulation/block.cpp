#include "emulation/block.h"

#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <bit>
#include <string>

constinit thread_local uint3 threadIdx{};
constinit thread_local uint3 blockIdx{};
constinit thread_local dim3 blockDim{};
constinit thread_local dim3 gridDim{};

namespace cuda_emulation {
namespace {

uint32_t lanes_below(int count) { return count >= 32 ? 0xffffffff : (1u << count) - 1; }

uint32_t combine(Exchange exchange, bool is_signed, uint64_t bits_a, uint64_t bits_b) {
  const auto a = static_cast<uint32_t>(bits_a), b = static_cast<uint32_t>(bits_b);
  const bool less = is_signed ? static_cast<int32_t>(a) < static_cast<int32_t>(b) : a < b;
  switch (exchange) {
    case Exchange::kAnd:
      return a & b;
    case Exchange::kOr:
      return a | b;
    case Exchange::kXor:
      return a ^ b;
    case Exchange::kAdd:
      return a + b;
    case Exchange::kMin:
      return less ? a : b;
    case Exchange::kMax:
      return less ? b : a;
    default:
      return 0;
  }
}

}  // namespace

Block*& Block::running() {
  static constinit thread_local Block* block = nullptr;
  return block;
}

// --- turns --------------------------------------------------------------------------------------

void Block::run(dim3 size, bool reversed, const std::function<void()>& thread) {
  body_ = &thread;
  reversed_ = reversed;
  start(size);
  running() = this;
  Thread& first = *next();
  first.fiber = &fibers_.take();
  make_current(first);
  fibers_.switch_to(fibers_.main(), *first.fiber);
  running() = nullptr;
}

void Block::start(dim3 size) {
  blockDim = size;
  if (size.x != size_.x || size.y != size_.y || size.z != size_.z) number_threads(size);
  for (Thread& thread : threads_) thread.state = State::kUnstarted;
  for (Warp& warp : warps_) {
    warp.ready = warp.lanes;
    warp.yielded = 0;
  }
  turn_ = 0;
  ended_ = at_barrier_ = in_favour_ = 0;
}

void Block::number_threads(dim3 size) {
  size_ = size;
  threads_.clear();
  for (unsigned z = 0; z < size.z; ++z)
    for (unsigned y = 0; y < size.y; ++y)
      for (unsigned x = 0; x < size.x; ++x) threads_.emplace_back().index = {x, y, z};
  const int count = static_cast<int>(threads_.size());
  warps_.assign(static_cast<size_t>((count + warpSize - 1) / warpSize), Warp{});
  for (int w = 0; w < static_cast<int>(warps_.size()); ++w)
    warps_[static_cast<size_t>(w)].lanes = lanes_below(count - w * warpSize);
}

void Block::make_current(Thread& thread) {
  current_ = &thread;
  thread.state = State::kRuns;
  threadIdx = thread.index;
}

/// A warp goes on until each of its threads waits for one of another warp: the order that differs
/// most from that of a GPU where a barrier is missing.
Thread* Block::next() {
  for (;;) {
    const size_t w = reversed_ ? warps_.size() - 1 - turn_ : turn_;
    warp_ = &warps_[w];
    if (warp_->ready != 0) {
      lane_ = reversed_ ? 31 - std::countl_zero(warp_->ready) : std::countr_zero(warp_->ready);
      warp_->ready &= ~(1u << lane_);
      return &threads_[w * warpSize + static_cast<size_t>(lane_)];
    }
    if (!next_turn()) return nullptr;
  }
}

bool Block::next_turn() {
  if (++turn_ < warps_.size()) return true;
  turn_ = 0;
  const int count = static_cast<int>(threads_.size());
  if (ended_ == count) return false;
  if (at_barrier_ == count) {
    open_barrier();
    return true;
  }
  bool any = false;
  for (Warp& warp : warps_) {
    any |= warp.yielded != 0;
    warp.ready |= warp.yielded;
    warp.yielded = 0;
  }
  if (!any) report_stuck(threads_);
  return true;
}

void Block::fiber_body() { running()->run_threads(); }

/// A fiber's life: threads to their ends, one after the other, as long as those that follow have
/// not started; then it is put back and waits for the next one.
void Block::run_threads() {
  for (;;) {
    (*body_)();
    Fiber& self = *current_->fiber;
    current_->state = State::kEnded;
    current_->fiber = nullptr;
    ++ended_;
    Thread* follower = next();
    if (follower != nullptr && follower->fiber == nullptr) {
      follower->fiber = &self;
      make_current(*follower);
      continue;
    }
    fibers_.put_back(self);
    if (follower != nullptr) make_current(*follower);
    fibers_.switch_to(self, follower != nullptr ? *follower->fiber : fibers_.main());
    if (fibers_.closing()) fibers_.leave(self);
  }
}

void Block::wait_for_turn() {
  Thread& self = *current_;
  Thread& other = *next();
  if (other.fiber == nullptr) other.fiber = &fibers_.take();
  make_current(other);
  if (&other != &self) fibers_.switch_to(*self.fiber, *other.fiber);
}

void Block::yield() {
  warp_->yielded |= 1u << lane_;
  wait_for_turn();
}

// --- meetings -----------------------------------------------------------------------------------

Votes Block::meet_block(const char* name, bool vote, Place place) {
  current_->state = State::kAtBarrier;
  current_->waits_in = name;
  current_->place = place;
  ++at_barrier_;
  in_favour_ += vote;
  wait_for_turn();
  return votes_;
}

void Block::open_barrier() {
  const Place& place = threads_.front().place;
  for (const Thread& thread : threads_)
    if (!same_place(thread.place, place)) report_stuck(threads_);
  votes_ = {.in_favour = in_favour_, .all = at_barrier_};
  at_barrier_ = in_favour_ = 0;
  for (Warp& warp : warps_) warp.ready = warp.lanes;
}

void Block::refuse(Place place, const char* name, const char* why) const {
  report(place, std::string(name) + " by thread " + std::to_string(current_number()) + " " + why);
}

Gathering& Block::gathering(Place place, uint32_t mask) {
  for (Gathering& known : warp_->gatherings)
    if (known.mask == mask && same_place(known.place, place)) return known;
  return warp_->gatherings.emplace_back(Gathering{.mask = mask, .arrived = 0, .place = place});
}

uint64_t Block::meet_warp(WarpMeeting meeting) {
  const uint32_t own = 1u << lane_;
  if ((meeting.mask & own) == 0)
    refuse(meeting.place, meeting.name, "names a mask without its own lane");
  if ((meeting.mask & ~warp_->lanes) != 0)
    refuse(meeting.place, meeting.name, "names lanes that the block does not have");
  if (meeting.exchange == Exchange::kShuffle && (meeting.mask >> meeting.source & 1) == 0)
    refuse(meeting.place, meeting.name, "reads a lane outside of its mask");

  Thread& self = *current_;
  self.brings = meeting.value;
  self.source = meeting.source;
  Gathering& here = gathering(meeting.place, meeting.mask);
  here.arrived |= own;
  if (here.arrived == meeting.mask) {
    warp_->gatherings.erase(warp_->gatherings.begin() + (&here - warp_->gatherings.data()));
    finish(meeting.exchange, meeting.is_signed, meeting.mask);
    warp_->ready |= meeting.mask & ~own;
    return self.takes;
  }
  self.state = State::kInWarp;
  self.waits_in = meeting.name;
  self.place = meeting.place;
  self.mask = meeting.mask;
  wait_for_turn();
  return self.takes;
}

/// What every lane takes is settled at once: those that go on first may bring the next value.
void Block::finish(Exchange exchange, bool is_signed, uint32_t mask) {
  if (exchange == Exchange::kNothing) return;
  Thread* lanes = current_ - lane_;
  if (exchange == Exchange::kShuffle) {
    for (uint32_t left = mask; left != 0; left &= left - 1) {
      Thread& lane = lanes[std::countr_zero(left)];
      lane.takes = lanes[lane.source].brings;
    }
    return;
  }
  const int first = std::countr_zero(mask);
  uint64_t together = 0;
  for (uint32_t left = mask; left != 0; left &= left - 1) {
    const int lane = std::countr_zero(left);
    const uint64_t value = lanes[lane].brings;
    if (exchange == Exchange::kBallot)
      together |= value << lane;
    else
      together = lane == first ? value : combine(exchange, is_signed, together, value);
  }
  for (uint32_t left = mask; left != 0; left &= left - 1)
    lanes[std::countr_zero(left)].takes = together;
}

// --- grids --------------------------------------------------------------------------------------

void run_grid(dim3 grid, dim3 block, const std::function<void()>& thread) {
  static std::atomic<uint64_t> grids{0};
  static thread_local uint64_t blocks = 0;
  static thread_local Block runner;  // keeps its fibers
  gridDim = grid;
  // Blocks have no order: in every other grid the last one goes first.
  const bool from_the_end = grids.fetch_add(1, std::memory_order_relaxed) % 2 == 1;
  const uint64_t count = uint64_t{grid.x} * grid.y * grid.z;
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t index = from_the_end ? count - 1 - i : i;
    blockIdx = {static_cast<unsigned>(index % grid.x),
                static_cast<unsigned>(index / grid.x % grid.y),
                static_cast<unsigned>(index / grid.x / grid.y)};
    // The Thue-Morse sequence: half of the blocks, never three in a row alike, and in step with no
    // program that launches small grids in turns.
    runner.run(block, std::popcount(blocks++) % 2 == 1, thread);
  }
}

// --- what kernels call --------------------------------------------------------------------------

Votes meet_block(const char* name, bool vote, Place place) {
  return Block::running()->meet_block(name, vote, place);
}
uint64_t meet_warp(WarpMeeting meeting) { return Block::running()->meet_warp(meeting); }
int this_lane() { return Block::running()->lane(); }
void yield_thread() {
  // The thread waits for somebody: the core is his, and from time to time it is nobody's.
  static thread_local int calls = 0;
  if (++calls % 64 == 0) {
    usleep(20);
  } else {
    sched_yield();
  }
  if (Block* block = Block::running(); block != nullptr) block->yield();
}

}  // namespace cuda_emulation
