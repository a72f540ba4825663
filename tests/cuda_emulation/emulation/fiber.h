// Fibers: stacks that take turns on one OS thread, with what the sanitizers must be told of it.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace cuda_emulation {

/// One stack, or, as `Fibers::main()`, the OS thread's own.
struct Fiber {
  void* context = nullptr;     ///< where it goes on, while another one runs
  std::byte* stack = nullptr;  ///< lowest usable byte; below it lies a page that traps
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;  ///< asan's, for detect_stack_use_after_return
};

/// The fibers of one OS thread. Those that are not in use keep their stacks for the next block.
class Fibers {
 public:
  /// What a fiber does when it is first switched to. It never returns, but leave()s.
  using Body = void (*)();
  explicit Fibers(Body body) : body_(body) {}
  ~Fibers();
  Fibers(const Fibers&) = delete;
  Fibers& operator=(const Fibers&) = delete;

  Fiber& main() { return main_; }
  /// One that is not in use: a new one begins in `body`, another goes on after it was put back.
  Fiber& take();
  void put_back(Fiber& fiber) { idle_.push_back(&fiber); }

  /// Lets `to` go on; returns when somebody switches to `from`, which is the one that runs.
  void switch_to(Fiber& from, Fiber& to);
  /// Whether the pool is being destroyed: a fiber that sees this calls leave() and nothing else.
  bool closing() const { return closing_; }
  [[noreturn]] void leave(Fiber& from);

 private:
  friend struct FiberEntry;
  void arrive(void* context_of_previous, void* fake_stack);
  std::unique_ptr<Fiber> make();
  void destroy(Fiber& fiber);

  Body body_;
  Fiber main_;
  std::vector<std::unique_ptr<Fiber>> all_;
  std::vector<Fiber*> idle_;
  Fiber* previous_ = nullptr;  ///< the one that switched to the one that runs
  bool closing_ = false;
};

}  // namespace cuda_emulation
