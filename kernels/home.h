// Where a unit's weights wait for their kernel, and how far ahead of it they are copied. Plain
// figures: the simulator models copies by what devices do.
#pragma once

#include <cstdint>

namespace tandem {

/// In the unit's own memory, or in pinned host memory from where they are copied over the link
/// ahead of each use (CUDA units).
enum class Home : uint8_t { kResident, kStreamed };
inline constexpr int kHomes = 2;

/// Streamed weights are copied in pieces, one after another, into slots: a copy begins when the
/// kernels that read the piece kStreamSlots before it are done.
/// A piece is a compromise: its first byte is waited for, and each costs a launch (about 3 us,
/// while 16 MiB take 300 us over PCIe 5). With four slots the link is busy for another
/// millisecond while the kernels wait for another unit.
inline constexpr int kStreamSlots = 4;
inline constexpr int64_t kStreamSlotBytes = int64_t{16} << 20;

/// Columns of a piece of columns that do not all fit into a slot: as many times `columns` as do, of
/// which each takes `bytes` there, packed (see kernels/cuda_planes.h). 0: they are too long.
constexpr int64_t columns_of_slot(int64_t columns, int64_t bytes) {
  return kStreamSlotBytes / bytes * columns;
}

}  // namespace tandem
