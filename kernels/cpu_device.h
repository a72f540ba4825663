// A CPU unit: a team of pinned cores with one kernel set. Declares what the cpu_*.cpp files share;
// open one through open_cpu_device().
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "kernels/cpu_workspace.h"
#include "kernels/device.h"
#include "kernels/kernel_set.h"
#include "kernels/memory.h"
#include "kernels/panels.h"
#include "kernels/team.h"

namespace tandem {

/// Columns in panels of 16; every segment begins a panel.
class CpuMatrix : public PlacedMatrix {
 public:
  std::shared_ptr<std::byte[]> data;
  int64_t panel_bytes = 0;
  int64_t panels_per_segment = 0;

  int64_t panel_of(int64_t column) const { return tandem::panel_of(column, segment); }
  Range panels_of(Range range) const { return tandem::panels_of(range, segment); }
  const std::byte* panel(int64_t index) const {
    return data.get() + (index - panel_of(resident.begin)) * panel_bytes;
  }
};

inline const CpuMatrix& cpu_matrix(const PlacedMatrix* matrix) {
  return static_cast<const CpuMatrix&>(*matrix);
}

/// An input's rows of k as kernels read them, by ActivationFormat.
struct PreparedInput {
  int64_t k = 0;
  std::array<std::byte*, 3> rows{};  ///< null where a format is not read
  std::array<std::vector<std::byte>, 3> memory;

  /// Before rows of these formats are prepared, [tokens x k].
  void make_room(const std::array<bool, 3>& formats, int64_t tokens, int64_t k_of_rows);
  std::byte* row(ActivationFormat format, int64_t token) const {
    return rows[static_cast<size_t>(format)] + token * activation_row_bytes(format, k);
  }
};

/// Scratch of one worker.
struct alignas(64) WorkerScratch {
  PreparedInput input;                     ///< of kOwnTokens at most
  std::vector<float> normed;               ///< one input row
  std::shared_ptr<std::byte[]> tile;       ///< see outputs()
  std::shared_ptr<std::byte[]> attention;  ///< kAttentionScratchFloats floats
  std::vector<float> states;               ///< kTileRows softmax states
  std::vector<std::byte> path_k;           ///< keys of one token's ancestors in a tree
  std::vector<std::byte> path_v;           ///< their values

  /// Raw dot products of a tile, from a cache line on; those of gate, then of up.
  float* outputs() const { return reinterpret_cast<float*>(tile.get()); }
};

class CpuDevice : public Device {
 public:
  explicit CpuDevice(const CpuDeviceOptions& options);

  std::shared_ptr<const PlacedMatrix> place(const MatrixSource& source, Range columns,
                                            Home home) override;
  std::shared_ptr<std::byte[]> allocate(int64_t bytes) override;
  void write(std::byte* to, const std::byte* from, int64_t bytes) override;
  void read(std::byte* to, const std::byte* from, int64_t bytes) override;
  void linear(const LinearArgs& args) override;
  void gate_up(const GateUpArgs& args) override;
  void qkv(const QkvArgs& args) override;
  void attention(const AttentionArgs& args) override;
  void merge(const MergeArgs& args) override;
  void embed(const EmbedArgs& args) override;
  void argmax(const ArgmaxArgs& args) override;
  void commit(const CommitArgs& args) override;
  void wait(Flag& flag) override;
  void stamp(int64_t* ns) override;
  void read_all(const std::byte* memory, int64_t bytes) override;
  void reserve(const DeviceLimits& limits) override;
  int64_t workspace_bytes() const override;
  bool begin_step(uint64_t recording) override;
  void end_step() override { team_.rest(); }

 private:
  void prepare(const LinearInput& input, Range tokens, const PreparedInput& into, int worker);
  template <class Function>
  void for_each_of(const LinearInput& input, std::initializer_list<const CpuMatrix*> matrices,
                   int64_t n, int64_t grain, const Function& f);
  int64_t piece_columns(int64_t tokens, int64_t matrices) const;
  void multiply(const PreparedInput& input, const CpuMatrix& weights, Range panels, Range tokens,
                float* y, int64_t y_stride);

  struct QkvHeads;
  void qkv_heads(const QkvArgs& args, const QkvHeads& of, const PreparedInput& input, int worker);
  void store_head(const QkvArgs& args, const QkvHeads& of, int64_t head, int64_t token,
                  float* values);

  struct Tile;
  void attend_chunk(const AttentionArgs& args, const Tile& tile, int64_t chunk, int worker);
  void attend_path(const AttentionArgs& args, const Tile& tile, int64_t chunk, int worker);
  void attend_tile(const AttentionArgs& args, const Tile& tile, const KvView& step,
                   const int64_t* seen, int64_t chunk, int worker);
  void attend_by_chunk(const AttentionArgs& args, Range chunks);
  void attend_by_rows(const AttentionArgs& args, Range chunks);

  const KernelSet& kernels_;
  bool yield_;
  Team team_;
  Arena weights_;
  PreparedInput input_;  ///< of more than kOwnTokens
  std::vector<WorkerScratch> scratch_;
  std::vector<float> chunk_states_;
};

/// Prepares an input of `matrices`, all of one k, and calls f(input as prepared, worker, items)
/// over [0, n) as Team::for_each() does, but that no n is too small to be shared.
template <class Function>
void CpuDevice::for_each_of(const LinearInput& input,
                            std::initializer_list<const CpuMatrix*> matrices, int64_t n,
                            int64_t grain, const Function& f) {
  const int64_t k = (*matrices.begin())->k;
  std::array<bool, 3> formats{};
  for (const CpuMatrix* matrix : matrices)
    formats[static_cast<size_t>(kernels_.format(matrix->dtype))] = true;
  const bool own = input.tokens <= kOwnTokens;
  if (!own) {
    input_.make_room(formats, input.tokens, k);
    team_.for_each(input.tokens, kOwnTokens,
                   [&](int worker, Range tokens) { prepare(input, tokens, input_, worker); });
  }
  const auto input_of = [&](int worker) -> PreparedInput& {
    return own ? scratch_[static_cast<size_t>(worker)].input : input_;
  };
  team_.for_each(
      n, std::min(grain, div_up(n, team_.size())),
      [&](int worker) {
        if (!own) return;
        input_of(worker).make_room(formats, input.tokens, k);
        prepare(input, {0, input.tokens}, input_of(worker), worker);
      },
      [&](int worker, Range items) { f(input_of(worker), worker, items); });
}

}  // namespace tandem
