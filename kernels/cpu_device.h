// A CPU unit: a team of pinned cores with one kernel set. Declares what the cpu_*.cpp files share;
// open one through open_cpu_device().
#pragma once

#include <array>
#include <memory>
#include <vector>

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

/// Scratch of one worker.
struct WorkerScratch {
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
  Activations& prepared(ActivationFormat format) { return prepared_[static_cast<size_t>(format)]; }
  void prepare(const LinearInput& input, int64_t k, ActivationFormat format);
  void prepare_for(const LinearInput& input, std::initializer_list<const PlacedMatrix*> matrices);
  void multiply(const CpuMatrix& weights, Range panels, Range tokens, float* y, int64_t y_stride);

  struct QkvHead;
  void qkv_head(const QkvArgs& args, const QkvHead& head, int worker);
  void store_head(const QkvArgs& args, const QkvHead& head, int64_t token, float* values);

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
  std::array<Activations, 3> prepared_{};
  std::array<std::vector<std::byte>, 3> prepared_memory_;
  std::vector<WorkerScratch> scratch_;
  std::vector<float> chunk_states_;
};

}  // namespace tandem
