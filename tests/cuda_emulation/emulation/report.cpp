// Says in one line on stderr what is wrong with a kernel and where, and ends the program.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "emulation/block.h"
#include "emulation/device_memory.h"

namespace cuda_emulation {
namespace {

bool waits(const Thread& thread) {
  return thread.state == State::kAtBarrier || thread.state == State::kInWarp;
}

bool stand_together(const Thread& a, const Thread& b) {
  if (a.state != b.state) return false;
  if (!waits(a)) return true;
  return same_place(a.place, b.place) && (a.state == State::kAtBarrier || a.mask == b.mask);
}

std::string location(const Place& place) {
  return std::string(place.file_name()) + ":" + std::to_string(place.line());
}

std::string coordinates(uint3 v) {
  return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
}

std::string describe(const Thread& thread) {
  if (!waits(thread)) return " ended";
  std::string text = std::string(" wait in ") + thread.waits_in + " at " + location(thread.place);
  if (thread.state == State::kInWarp) {
    char mask[32];
    std::snprintf(mask, sizeof mask, " for lanes 0x%08x", thread.mask);
    text += mask;
  }
  return text;
}

}  // namespace

std::string ranges(const std::vector<int>& sorted) {
  std::string text;
  for (size_t i = 0; i < sorted.size();) {
    size_t end = i + 1;
    while (end < sorted.size() && sorted[end] == sorted[end - 1] + 1) ++end;
    text += (text.empty() ? "" : ", ") + std::to_string(sorted[i]);
    if (end - i > 1) text += "-" + std::to_string(sorted[end - 1]);
    i = end;
  }
  return text;
}

void report(const Place& place, const std::string& what) {
  const std::string line = location(place) + ": " + what + ", in " + place.function_name() +
                           ", block " + coordinates(blockIdx) + "\n";
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
  std::abort();
}

void report_stuck(const std::vector<Thread>& threads) {
  // A warp that cannot go on keeps the others at their barrier: its place comes first.
  const Thread* culprit = nullptr;
  for (const Thread& thread : threads) {
    if (!waits(thread)) continue;
    if (culprit == nullptr ||
        (culprit->state == State::kAtBarrier && thread.state == State::kInWarp))
      culprit = &thread;
  }
  std::string groups;
  std::vector<bool> told(threads.size());
  for (size_t i = 0; i < threads.size(); ++i) {
    if (told[i]) continue;
    std::vector<int> members;
    for (size_t j = i; j < threads.size(); ++j) {
      if (!stand_together(threads[i], threads[j])) continue;
      told[j] = true;
      members.push_back(static_cast<int>(j));
    }
    groups += (groups.empty() ? "threads " : "; ") + ranges(members) + describe(threads[i]);
  }
  report(culprit->place,
         std::string(culprit->waits_in) + " that not all threads come to: " + groups);
}

void report_misaligned(const char* name, const void* address, size_t alignment,
                       const std::source_location& place) {
  char text[96];
  std::snprintf(text, sizeof text, "%s of %p, which is not aligned to %zu bytes", name, address,
                alignment);
  report(place, text);
}

void fence() {
  static std::atomic<int> order{0};
  order.fetch_add(1, std::memory_order_seq_cst);
}

}  // namespace cuda_emulation
