// A CPU unit: placing weights, preparing inputs, and the linear stages.
#include "kernels/cpu_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <chrono>
#include <cmath>
#include <cstring>

#include "kernels/error.h"
#include "kernels/memory.h"

namespace tandem {
namespace {

/// A vector's first cache line.
template <class T>
T* aligned(std::vector<std::byte>& memory) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(memory.data());
  return reinterpret_cast<T*>((address + 63) / 64 * 64);
}

template <class T>
void grow(std::vector<T>& memory, int64_t size) {
  if (static_cast<int64_t>(memory.size()) < size) memory.resize(static_cast<size_t>(size));
}

void reserve_bytes(PreparedInput& input, const std::array<int64_t, 3>& bytes) {
  for (size_t format = 0; format < bytes.size(); ++format)
    grow(input.memory[format], bytes[format]);
}

int64_t bytes_of(const PreparedInput& input) {
  int64_t bytes = 0;
  for (const auto& memory : input.memory) bytes += std::ssize(memory);
  return bytes;
}

}  // namespace

void PreparedInput::make_room(const std::array<bool, 3>& formats, int64_t tokens,
                              int64_t k_of_rows) {
  k = k_of_rows;
  rows = {};
  for (const ActivationFormat format : kActivationFormats) {
    const auto i = static_cast<size_t>(format);
    if (!formats[i]) continue;
    grow(memory[i], tokens * activation_row_bytes(format, k) + 64);
    rows[i] = aligned<std::byte>(memory[i]);
  }
}

CpuDevice::CpuDevice(const CpuDeviceOptions& options)
    : kernels_(kernel_set(options.isa)),
      yield_(options.yield),
      team_(options.cores, options.yield),
      scratch_(options.cores.size()) {
  const CpuWorkspace space = cpu_workspace({});
  for (WorkerScratch& scratch : scratch_) {
    scratch.tile = map_memory(space.tile * 4);
    scratch.attention = map_memory(space.attention * 4);
  }
}

std::unique_ptr<Device> open_cpu_device(const CpuDeviceOptions& options) {
  if (options.cores.empty()) throw Error("unit: it has no cores; give it at least one");
  return std::make_unique<CpuDevice>(options);
}

void CpuDevice::reserve(const DeviceLimits& limits) {
  const CpuWorkspace space = cpu_workspace(limits);
  reserve_bytes(input_, space.prepared);
  for (WorkerScratch& scratch : scratch_) {
    reserve_bytes(scratch.input, space.own_prepared);
    grow(scratch.normed, space.normed);
    grow(scratch.states, space.states);
    grow(scratch.path_k, space.path_k);
    grow(scratch.path_v, space.path_v);
  }
  grow(chunk_states_, space.chunk_states);
}

int64_t CpuDevice::workspace_bytes() const {
  int64_t bytes = static_cast<int64_t>(chunk_states_.size()) * 4 + bytes_of(input_);
  for (const WorkerScratch& s : scratch_)
    bytes += bytes_of(s.input) +
             static_cast<int64_t>((s.normed.size() + s.states.size()) * 4 + s.path_k.size() +
                                  s.path_v.size()) +
             (cpu_workspace({}).tile + kAttentionScratchFloats) * 4;
  return bytes;
}

bool CpuDevice::begin_step(uint64_t /*recording*/) {
  team_.wake();
  return false;
}

void CpuDevice::wait(Flag& flag) {
  while (!flag.take()) relax(yield_);
}

void CpuDevice::stamp(int64_t* ns) {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  *ns = std::chrono::nanoseconds(now).count();
}

void CpuDevice::read_all(const std::byte* memory, int64_t bytes) {
  constexpr int64_t kPieceBytes = 256 << 10;
  team_.for_each(div_up(bytes, kPieceBytes), 1, [&](int, Range pieces) {
    const int64_t begin = pieces.begin * kPieceBytes;
    const uint64_t sum =
        kernels_.read(memory + begin, std::min(pieces.end * kPieceBytes, bytes) - begin);
    asm volatile("" : : "r"(sum));  // or the read would be for nothing
  });
}

std::shared_ptr<const PlacedMatrix> CpuDevice::place(const MatrixSource& source, Range columns,
                                                     [[maybe_unused]] Home home) {
  assert(home == Home::kResident);  // what streams over a link lies here already
  auto matrix = std::make_shared<CpuMatrix>();
  matrix->dtype = source.dtype;
  matrix->columns = source.columns;
  matrix->k = source.k;
  matrix->segment = source.segment > 0 ? source.segment : source.columns;
  matrix->panel_bytes = panel_bytes(source.dtype, source.k);
  matrix->panels_per_segment = div_up(matrix->segment, kPanelColumns);
  matrix->resident = columns;
  const Range panels = matrix->panels_of(columns);
  matrix->bytes = panels.size() * matrix->panel_bytes;
  matrix->data = weights_.take(matrix->bytes);
  const int64_t source_row = row_bytes(source.dtype, source.k);
  team_.for_each(panels.size(), 4, [&](int, Range pieces) {
    for (int64_t i = pieces.begin; i < pieces.end; ++i) {
      const int64_t panel = panels.begin + i;
      const int64_t in_segment = panel % matrix->panels_per_segment * kPanelColumns;
      const int64_t first = panel / matrix->panels_per_segment * matrix->segment + in_segment;
      const std::byte* rows[16] = {};
      const int64_t count = std::min(kPanelColumns, matrix->segment - in_segment);
      for (int64_t c = 0; c < count; ++c) rows[c] = source.rows + (first + c) * source_row;
      pack_panel(source.dtype, rows, source.k, matrix->data.get() + i * matrix->panel_bytes);
    }
  });
  return matrix;
}

std::shared_ptr<std::byte[]> CpuDevice::allocate(int64_t bytes) { return map_memory(bytes); }

void CpuDevice::write(std::byte* to, const std::byte* from, int64_t bytes) {
  std::memcpy(to, from, static_cast<size_t>(bytes));
}

void CpuDevice::read(std::byte* to, const std::byte* from, int64_t bytes) {
  write(to, from, bytes);
}

/// Normalises and prepares rows of an input, in every format that is read.
void CpuDevice::prepare(const LinearInput& input, Range tokens, const PreparedInput& into,
                        int worker) {
  std::vector<float>& normed = scratch_[static_cast<size_t>(worker)].normed;
  grow(normed, into.k);
  for (int64_t t = tokens.begin; t < tokens.end; ++t) {
    const float* row = input.x + t * into.k;
    if (input.norm_weight != nullptr) {
      kernels_.rms_norm(row, input.norm_weight, input.norm_eps, into.k, normed.data());
      row = normed.data();
    }
    for (const ActivationFormat format : kActivationFormats)
      if (into.rows[static_cast<size_t>(format)] != nullptr)
        kernels_.prepare(format, row, into.k, into.row(format, t));
  }
}

/// y[t - tokens.begin][c] of the panels' columns, unchecked and unfinished: an epilogue follows.
void CpuDevice::multiply(const PreparedInput& input, const CpuMatrix& weights, Range panels,
                         Range tokens, float* y, int64_t y_stride) {
  const ActivationFormat format = kernels_.format(weights.dtype);
  assert(tokens.size() * y_stride <= kMostTokensAtOnce * kMaxTileColumns && input.k == weights.k);
  kernels_.linear({.dtype = weights.dtype,
                   .panels = weights.panel(panels.begin),
                   .num_panels = panels.size(),
                   .k = weights.k,
                   .x = {.base = input.row(format, tokens.begin),
                         .row_bytes = activation_row_bytes(format, input.k),
                         .k = input.k},
                   .tokens = tokens.size(),
                   .y = y,
                   .y_stride = y_stride,
                   .ask_ahead = ask_ahead_here()});
}

/// Columns of each of some matrices that a worker multiplies at once by a step's tokens: a multiple
/// of kPieceColumns.
int64_t CpuDevice::piece_columns(int64_t tokens, int64_t matrices) const {
  assert(tokens > 0);
  if (tokens > kernels_.tokens_at_once) return kPieceColumns;
  const int64_t dots = kPieceDots / (tokens * matrices);
  return std::max(kPieceColumns, dots / kPieceColumns * kPieceColumns);
}

namespace {

/// Calls f(columns, tokens) over pieces of at most `piece` columns x `most` tokens.
template <class Function>
void for_tiles(Range columns, int64_t piece, int64_t tokens, int64_t most, const Function& f) {
  for (int64_t c = columns.begin; c < columns.end; c += piece)
    for (int64_t t = 0; t < tokens; t += most)
      f(Range{c, std::min(c + piece, columns.end)}, Range{t, std::min(t + most, tokens)});
}

/// The columns of `all` that its pieces [pieces.begin, pieces.end) of kPieceColumns hold.
Range columns_of(Range all, Range pieces) {
  return {all.begin + pieces.begin * kPieceColumns,
          std::min(all.begin + pieces.end * kPieceColumns, all.end)};
}

}  // namespace

void CpuDevice::linear(const LinearArgs& args) {
  const CpuMatrix& weights = cpu_matrix(args.weights);
  assert(weights.resident.contains(args.columns));
  const int64_t piece = piece_columns(args.input.tokens, 1);
  const auto run = [&](const PreparedInput& input, int worker, Range pieces) {
    float* tile = scratch_[static_cast<size_t>(worker)].outputs();
    const Range columns = columns_of(args.columns, pieces);
    for_tiles(columns, piece, args.input.tokens, kernels_.tokens_at_once, [&](Range c, Range t) {
      multiply(input, weights, weights.panels_of(c), t, tile, piece);
      for (int64_t i = 0; i < t.size(); ++i) {
        float* y = args.y + (t.begin + i) * args.y_stride + c.begin;
        const float* dots = tile + i * piece;
        if (args.add) {
          for (int64_t j = 0; j < c.size(); ++j) y[j] += dots[j];
        } else {
          std::memcpy(y, dots, static_cast<size_t>(c.size()) * sizeof(float));
        }
      }
    });
  };
  for_each_of(args.input, {&weights}, div_up(args.columns.size(), kPieceColumns),
              piece / kPieceColumns, run);
}

void CpuDevice::gate_up(const GateUpArgs& args) {
  const CpuMatrix& gate = cpu_matrix(args.gate);
  const CpuMatrix& up = cpu_matrix(args.up);
  const int64_t piece = piece_columns(args.input.tokens, 2);
  const auto run = [&](const PreparedInput& input, int worker, Range pieces) {
    float* gates = scratch_[static_cast<size_t>(worker)].outputs();
    float* ups = gates + std::min(args.input.tokens, kernels_.tokens_at_once) * piece;
    const Range columns = columns_of(args.columns, pieces);
    for_tiles(columns, piece, args.input.tokens, kernels_.tokens_at_once, [&](Range c, Range t) {
      multiply(input, gate, gate.panels_of(c), t, gates, piece);
      multiply(input, up, up.panels_of(c), t, ups, piece);
      for (int64_t i = 0; i < t.size(); ++i)
        kernels_.swiglu(gates + i * piece, ups + i * piece, c.size(),
                        args.h + (t.begin + i) * args.h_stride + c.begin);
    });
  };
  for_each_of(args.input, {&gate, &up}, div_up(args.columns.size(), kPieceColumns),
              piece / kPieceColumns, run);
}

void CpuDevice::embed(const EmbedArgs& args) {
  const DType dtype = args.table.dtype;
  const int64_t k = args.table.k;
  team_.for_each(std::ssize(args.token_ids), 8, [&](int, Range tokens) {
    for (int64_t t = tokens.begin; t < tokens.end; ++t) {
      const int64_t id = args.token_ids[static_cast<size_t>(t)];
      if (args.placed != nullptr) {
        const CpuMatrix& matrix = cpu_matrix(args.placed);
        unpack_column(dtype, matrix.panel(matrix.panel_of(id)), id % 16, k, args.x + t * k);
      } else {
        dequantize_row(dtype, args.table.rows + id * row_bytes(dtype, k), k, args.x + t * k);
      }
    }
  });
}

void CpuDevice::argmax(const ArgmaxArgs& args) {
  *args.index = static_cast<int32_t>(kernels_.argmax(args.values, args.n));
}

}  // namespace tandem
