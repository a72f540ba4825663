// The contract between the executor and one processing unit: what a unit can be asked to compute.
// It knows no plan, no split and no model; a CPU unit lies in cpu_device.cpp, a CUDA unit in
// cuda_*.cu.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/dtype.h"
#include "kernels/flag.h"
#include "kernels/home.h"
#include "kernels/kv_view.h"
#include "kernels/range.h"

namespace tandem {

// Two kinds of memory. What Device::allocate() gives is the unit's own, in its fastest memory; the
// host may not touch it but through write() and read(). All other buffers and vectors that
// arguments point to are exchanged memory: host memory that every unit involved was told of by
// share(). A CPU unit works on it in place. A CUDA unit keeps a copy: it sees what others wrote
// after receive(), and writes its own results to both where `publish` says so.

/// A number that is the same for every run of a recorded step, or one that is looked up in
/// exchanged memory each time (the depth of the context grows, the calls stay).
struct StepValue {
  const int64_t* at = nullptr;  ///< in exchanged memory, or null
  int64_t fixed = 0;

  StepValue() = default;
  StepValue(int64_t value) : fixed(value) {}  // NOLINT: a plain number is the ordinary case
  static StepValue looked_up(const int64_t* at) {
    StepValue value;
    value.at = at;
    return value;
  }
  operator int64_t() const { return at ? *at : fixed; }  // NOLINT
};

/// A rectangle of exchanged memory: `rows` runs of `bytes`, `stride` bytes apart.
struct Block {
  std::byte* data = nullptr;
  int64_t rows = 1;
  int64_t bytes = 0;
  int64_t stride = 0;
};

/// A weight matrix as the file stores it: `columns` output features, each a row of `k` elements.
/// Rows are grouped in segments (a head of q, k or v; the whole matrix elsewhere) and a segment
/// starts a new panel, so that a head can be computed alone whatever head_dim is.
struct MatrixSource {
  DType dtype = DType::kF32;
  int64_t columns = 0;
  int64_t k = 0;
  int64_t segment = 0;              ///< columns of a segment, 0 = all of them; divides `columns`
  const std::byte* rows = nullptr;  ///< [columns x row_bytes(dtype, k)]; read only during place()
};

/// A range of a matrix's columns, packed for a unit and resident in its memory.
class PlacedMatrix {
 public:
  virtual ~PlacedMatrix() = default;
  DType dtype = DType::kF32;
  int64_t columns = 0;  ///< of the whole matrix
  int64_t k = 0;
  int64_t segment = 0;  ///< as in MatrixSource, never 0
  Range resident;       ///< columns that lie here
  int64_t bytes = 0;    ///< packed bytes resident

 protected:
  PlacedMatrix() = default;
};

/// y[t][c] = sum_k x[t][k] w[c][k], with the input RMS-normalised first where `norm_weight` is
/// given: x / sqrt(mean(x^2) + norm_eps) * norm_weight.
struct LinearInput {
  const float* x = nullptr;  ///< [tokens x k]
  int64_t tokens = 0;
  const float* norm_weight = nullptr;  ///< [k] or null
  float norm_eps = 0;
};

/// out, down (add = true: `y` is the residual stream, columns are added in place) and lm_head.
struct LinearArgs {
  LinearInput input;
  const PlacedMatrix* weights = nullptr;
  Range columns;       ///< cut on kColumnAlign, except a ragged last end
  float* y = nullptr;  ///< [tokens x y_stride], only `columns` are touched; not the input's memory
  int64_t y_stride = 0;
  bool add = false;
  bool publish = true;  ///< other units or the host read the result (here and below)
};

/// h[t][j] = silu(gate_j . x_t) * (up_j . x_t) for j in columns (SwiGLU, Shazeer 2020, eq. 6).
struct GateUpArgs {
  LinearInput input;
  const PlacedMatrix* gate = nullptr;
  const PlacedMatrix* up = nullptr;
  Range columns;
  float* h = nullptr;  ///< [tokens x h_stride]
  int64_t h_stride = 0;
  bool publish = true;
};

enum class RopeOrder : uint8_t { kNormal, kNeox };  ///< rotated pairs (2i, 2i+1) or (i, i + d/2)

/// Queries, keys and values of `kv_heads`, with bias, per-head RMS norm (QK norm, with
/// LinearInput::norm_eps) and RoPE applied: angle of pair i at position p is p *
/// rope_base^(-2i/rope_dim) / rope_factors[i] (Su et al. 2021, eq. 15).
struct QkvArgs {
  LinearInput input;
  const PlacedMatrix* wq = nullptr;  ///< segment head_dim
  const PlacedMatrix* wk = nullptr;
  const PlacedMatrix* wv = nullptr;
  const float* bq = nullptr;  ///< [num_heads x head_dim] or null; bk, bv likewise
  const float* bk = nullptr;
  const float* bv = nullptr;
  const float* q_norm = nullptr;  ///< [head_dim] or null
  const float* k_norm = nullptr;
  Range kv_heads;
  int64_t group = 1;  ///< query heads per kv head
  int64_t head_dim = 0;
  int64_t rope_dim = 0;  ///< leading elements of a head that are rotated
  RopeOrder rope_order = RopeOrder::kNormal;
  const float* cos_sin =
      nullptr;           ///< [tokens x rope_dim / 2 x 2]: cosine, sine of each pair's angle
  StepValue past;        ///< positions cached before this step: places the rows in `step`
  float* q = nullptr;    ///< [tokens x num_heads x head_dim], heads of kv_heads are written
  int64_t q_stride = 0;  ///< num_heads * head_dim
  KvView step;           ///< rounded to step.dtype; exchanged memory
  bool publish = true;   ///< of q, keys and values
};

/// One part of a layer's attention: for every query head of kv_heads and every token the softmax
/// state (o, m, l) over cached positions `context` and, where include_new, the new tokens that are
/// the token's ancestors and itself. (Milakov and Gimelshein 2018; Dao 2023, FlashAttention-2,
/// sec. 3.1)
struct AttentionArgs {
  int64_t tokens = 0;
  const int32_t* parents =
      nullptr;     ///< [tokens], index of the parent token, -1 = the context; null = a chain
  StepValue past;  ///< positions cached before this step
  Range kv_heads;
  int64_t group = 1;
  int64_t head_dim = 0;
  float scale = 0;
  const float* q = nullptr;  ///< [tokens x q_stride]
  int64_t q_stride = 0;
  KvView cache;   ///< holds `context`; unused where context is empty
  Range context;  ///< cut on kAttentionChunk; of it those before `past` are seen
  bool include_new = false;
  KvView step;
  float* out = nullptr;    ///< [tokens x q_stride] normalised o / l, or null and:
  float* state = nullptr;  ///< [tokens x num_heads x (head_dim + 2)]: o, then m, then l
  bool publish = true;
};

/// out = merged o / l of the heads of kv_heads; states ascend in position.
struct MergeArgs {
  int64_t tokens = 0;
  Range kv_heads;
  int64_t group = 1;
  int64_t head_dim = 0;
  std::span<const float* const> states;  ///< each [tokens x num_heads x (head_dim + 2)]
  float* out = nullptr;                  ///< [tokens x q_stride]
  int64_t q_stride = 0;
  bool publish = true;
};

/// x[t] = row token_ids[t] of the embedding, dequantised. The table is read as the file stores it,
/// or, where the output head is the same matrix and lies here anyway, from its packed columns.
struct EmbedArgs {
  MatrixSource table;                    ///< rows unused where `placed` is given
  const PlacedMatrix* placed = nullptr;  ///< all columns resident, or null
  std::span<const int32_t> token_ids;
  float* x = nullptr;  ///< [tokens x table.k]
};

/// index = that of the largest value, the lowest of equal ones; 0 where none is a number.
struct ArgmaxArgs {
  const float* values = nullptr;  ///< [n]
  int64_t n = 0;
  int32_t* index = nullptr;  ///< exchanged memory, where the host reads it
};

/// A layer's step buffer, and the cache that rows of it go to.
struct CommitCache {
  KvView step;
  KvView cache;  ///< rows outside cache.positions are another home's: skipped
};

/// Appends row rows[i] of each step buffer to position first_position + i of its cache.
struct CommitArgs {
  std::span<const CommitCache> caches;  ///< of one dtype and head_dim
  std::span<const int32_t> rows;  ///< exchanged memory; from the first negative one on none is kept
  StepValue first_position;
};

/// The largest step a device will be asked for.
struct DeviceLimits {
  int64_t tokens = 1;
  int64_t k = 0;        ///< longest input row of a linear
  int64_t columns = 0;  ///< of the widest linear
  int64_t context = 0;
  int64_t heads = 0;  ///< query heads of one attention part
  int64_t head_dim = 0;
};

/// One processing unit, driven by one thread.
///
/// A unit that does not enqueue has a result in exchanged memory when a call returns. One that does
/// (a CUDA unit) only queues a call of linear, gate_up, qkv, attention, merge, argmax, commit,
/// wait, raise, receive, receive_from or stamp; the queue runs in order, at once or when end_step()
/// is called. embed is done when it returns on every unit: a CUDA unit's driver does it on its
/// core, so that the table takes no device memory and the rows need no launch of their own.
class Device {
 public:
  virtual ~Device() = default;
  virtual bool enqueues() const { return false; }

  /// Packs columns of a matrix into this unit's memory, touched first by the cores that will read
  /// it; or, streamed, into host memory that it is copied from.
  virtual std::shared_ptr<const PlacedMatrix> place(const MatrixSource& source, Range columns,
                                                    Home home = Home::kResident) = 0;
  /// Zeroed memory of this unit, for caches; 64-byte aligned.
  virtual std::shared_ptr<std::byte[]> allocate(int64_t bytes) = 0;
  /// Copies into and out of memory that allocate() gave.
  virtual void write(std::byte* to, const std::byte* from, int64_t bytes) = 0;
  virtual void read(std::byte* to, const std::byte* from, int64_t bytes) = 0;
  /// Makes host memory, from the beginning of a page on, exchanged memory of this unit for as long
  /// as the handle lives.
  virtual std::shared_ptr<void> share(std::byte* /*memory*/, int64_t /*bytes*/) { return nullptr; }

  virtual void linear(const LinearArgs& args) = 0;
  virtual void gate_up(const GateUpArgs& args) = 0;
  virtual void qkv(const QkvArgs& args) = 0;
  virtual void attention(const AttentionArgs& args) = 0;
  virtual void merge(const MergeArgs& args) = 0;
  virtual void embed(const EmbedArgs& args) = 0;
  virtual void argmax(const ArgmaxArgs& args) = 0;
  virtual void commit(const CommitArgs& args) = 0;

  /// Waits for a flag of exchanged memory and lowers it; a flag that was cancelled counts as
  /// raised.
  virtual void wait(Flag& flag) = 0;
  /// Raises a flag when everything before it is done and visible to all units.
  virtual void raise(Flag& flag) { flag.raise(); }
  /// Takes over what another unit or the host wrote to a block.
  virtual void receive(const Block& /*block*/) {}
  /// Sees to it that this unit can read what `writer` wrote from that unit's memory, between steps.
  /// False where the machine has no way.
  virtual bool connect(const Device& /*writer*/) { return false; }
  /// receive() of what `writer`, to which this unit is connected, wrote itself and may not have
  /// published.
  virtual void receive_from(const Device& /*writer*/, const Block& block) { receive(block); }
  /// Stores the time in nanoseconds of the host's steady clock, in exchanged memory.
  virtual void stamp(int64_t* ns) = 0;

  /// Reads memory that allocate() gave, once, as fast as the unit can: for probes of bandwidth.
  virtual void read_all(const std::byte* memory, int64_t bytes) = 0;

  /// Makes scratch large enough for steps within these limits, so that no later call allocates.
  /// Calls beyond them grow it.
  virtual void reserve(const DeviceLimits& limits) = 0;
  /// Bytes of scratch held; copies of exchanged memory are not counted.
  virtual int64_t workspace_bytes() const = 0;

  /// Called by the driver thread before its first and after its last task of a step: pins the
  /// thread and wakes the team; lets the team sleep. Work between the two never sleeps, only spins.
  ///
  /// Steps of one `recording` (0 = none) make the same calls with the same arguments up to
  /// end_step(). True: this unit has recorded them and runs them now; the caller makes only calls
  /// of embed. A unit that enqueues runs what was queued when launch() is called.
  virtual bool begin_step(uint64_t recording = 0) = 0;
  virtual void launch() {}
  /// Error where what was queued has failed: the flags that it was to raise stay down then.
  virtual void check() {}
  /// Returns when all calls of the step are done. Error where the unit failed.
  virtual void end_step() = 0;
  /// Forgets all recordings: plan or buffers change.
  virtual void forget_recordings() {}
};

/// What a CPU unit is made of: `cores` are logical CPU numbers of this process's affinity mask.
struct CpuDeviceOptions {
  std::vector<int> cores;
  std::string isa;  ///< name in kernel_sets(), "" = the best this CPU runs (or TANDEM_ISA)
  bool yield =
      false;  ///< threads outnumber the allowed cores: give the core away instead of spinning
};

std::unique_ptr<Device> open_cpu_device(const CpuDeviceOptions& options);

/// One CUDA device of this machine; none are listed where the build or the machine has no CUDA.
struct CudaDeviceInfo {
  std::string name;
  std::string capability;  ///< "9.0"
  int64_t memory_bytes = 0;
  bool unified = false;            ///< shares the host's memory: exchanged memory is not copied
  bool stream_memory_ops = false;  ///< waits on flags inside a stream
};
std::vector<CudaDeviceInfo> list_cuda_devices();
/// Whether the machine has cuBLASLt, by which CUDA units multiply prompts; without it they are
/// multiplied 16 tokens at a time. Loads the library: takes a while.
bool has_cuda_matrix_library();

struct CudaDeviceOptions {
  int index = 0;       ///< in the driver's order
  int core = -1;       ///< logical CPU that the driver thread is pinned to; -1 = none
  bool yield = false;  ///< as in CpuDeviceOptions
};
/// Error where there is no such device, or its driver is too old.
std::unique_ptr<Device> open_cuda_device(const CudaDeviceOptions& options);

}  // namespace tandem
