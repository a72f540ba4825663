#include "emulation/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <boost/context/detail/fcontext.hpp>
#include <cstdio>
#include <cstdlib>

#include "emulation/sanitizers.h"

namespace cuda_emulation {
namespace {

using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

// Frames are larger under asan, and the report of any sanitizer is written on the fiber's stack.
constexpr size_t kStackBytes = size_t{kAsan || kTsan ? 256 : 64} * 1024;

size_t page_bytes() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

}  // namespace

/// The first function on a fiber's stack.
struct FiberEntry {
  static void enter(transfer_t from) {
    auto* fibers = static_cast<Fibers*>(from.data);
    fibers->arrive(from.fctx, nullptr);
    fibers->body_();
    abort();  // a body does not return
  }
};

Fibers::~Fibers() {
  closing_ = true;
  for (Fiber* fiber : idle_) switch_to(main_, *fiber);  // each leaves, so that asan frees its stack
  for (const auto& fiber : all_) destroy(*fiber);
}

Fiber& Fibers::take() {
  if (idle_.empty()) {
    all_.push_back(make());
    return *all_.back();
  }
  Fiber& fiber = *idle_.back();
  idle_.pop_back();
  return fiber;
}

std::unique_ptr<Fiber> Fibers::make() {
  const size_t guard = page_bytes();
  void* memory = mmap(nullptr, guard + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, guard, PROT_NONE) != 0) {
    perror("cuda emulation: the stack of a fiber");
    abort();
  }
  auto fiber = std::make_unique<Fiber>();
  fiber->stack = static_cast<std::byte*>(memory) + guard;
  fiber->stack_bytes = kStackBytes;
  fiber->context = make_fcontext(fiber->stack + kStackBytes, kStackBytes, FiberEntry::enter);
  return fiber;
}

void Fibers::destroy(Fiber& fiber) {
  unpoison(fiber.stack, fiber.stack_bytes);
  munmap(fiber.stack - page_bytes(), page_bytes() + fiber.stack_bytes);
}

void Fibers::switch_to(Fiber& from, Fiber& to) {
  previous_ = &from;
  start_switch(&from.fake_stack, to);
  const transfer_t arrived = jump_fcontext(to.context, this);
  arrive(arrived.fctx, from.fake_stack);
}

void Fibers::arrive(void* context_of_previous, void* fake_stack) {
  previous_->context = context_of_previous;
  finish_switch(fake_stack, previous_ == &main_ ? &main_ : nullptr);
}

void Fibers::leave(Fiber& from) {
  previous_ = &from;
  start_switch(nullptr, main_);  // null: this fiber's fake stack is not needed again
  jump_fcontext(main_.context, this);
  abort();
}

}  // namespace cuda_emulation
