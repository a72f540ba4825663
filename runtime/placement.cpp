#include "runtime/placement.h"

#include <algorithm>
#include <atomic>
#include <future>
#include <mutex>
#include <utility>

#include "kernels/error.h"
#include "runtime/resident_columns.h"

namespace tandem {
namespace {

/// One matrix and the slot that its placed form goes to in each memory.
struct Job {
  const MatrixSource* source;
  std::vector<std::vector<Range>> resident;  ///< per memory
  std::vector<std::vector<Range>> streamed;  ///< per memory
  std::vector<MatrixPieces*> slots;          ///< per memory
  std::once_flag prepared;
  std::atomic<int> left{0};  ///< memories that have not placed it yet
};

/// A device within a step, until the scope ends in whatever way.
class AwakeDevice {
 public:
  explicit AwakeDevice(Device& device) : device_(device) { device_.begin_step(); }
  ~AwakeDevice() {
    try {
      if (!ended_) device_.end_step();
    } catch (const Error&) {
      // Another error is on its way already.
    }
  }
  AwakeDevice(const AwakeDevice&) = delete;
  AwakeDevice& operator=(const AwakeDevice&) = delete;

  /// Ends the step where nothing went wrong. Error where the device did.
  void end() {
    ended_ = true;
    device_.end_step();
  }

 private:
  Device& device_;
  bool ended_ = false;
};

class Placement {
 public:
  Placement(const Model& model, std::span<const Plan> plans,
            const std::vector<std::unique_ptr<Device>>& devices, const std::vector<int>& memory_of,
            const PlacementOptions& options)
      : model_(model), devices_(devices), memory_of_(memory_of), options_(options) {
    weights_.resize(count_memories(memory_of));
    for (PlacedWeights& weights : weights_)
      weights.layers.resize(static_cast<size_t>(model.spec.num_layers));
    uint64_t cuda = 0;
    for (size_t unit = 0; unit < devices.size(); ++unit)
      if (devices[unit]->enqueues()) {
        weights_[memory(unit)].on_host = false;
        cuda |= uint64_t{1} << unit;
      }
    reads_table_ = reads_table(model.spec, plans, memory_of, cuda);
    // First of all: where the embedding is placed as the head, its source can go before the layers
    // come.
    add(
        model.lm_head, [&](Home home) { return held_lm_head(plans, memory_of, home).of_memory; },
        [](PlacedWeights& w) { return &w.lm_head; });
    const std::vector<LayerMatrix> matrices = layer_matrices(model.spec);
    for (size_t layer = 0; layer < model.layers.size(); ++layer)
      for (const LayerMatrix& matrix : matrices)
        add(
            model.layers[layer].*matrix.source,
            [&](Home home) {
              return held_columns(matrix, plans, static_cast<int64_t>(layer), memory_of, home)
                  .of_memory;
            },
            [&](PlacedWeights& w) { return &(w.layers[layer].*matrix.placed); });
  }

  std::vector<PlacedWeights> run() {
    std::vector<std::future<void>> shares;
    for (size_t unit = 0; unit < devices_.size(); ++unit)
      shares.push_back(
          std::async(std::launch::async, [&, unit] { place_share(*devices_[unit], unit); }));
    for (const std::future<void>& share : shares) share.wait();
    for (std::future<void>& share : shares) share.get();
    for (size_t m = 0; m < weights_.size(); ++m)
      for (const auto& job : jobs_) {
        for (const auto& piece : job->slots[m]->resident) weights_[m].bytes += piece->bytes;
        for (const auto& piece : job->slots[m]->streamed)
          weights_[m].streamed_bytes += piece->bytes;
      }
    return std::move(weights_);
  }

 private:
  size_t memory(size_t unit) const { return static_cast<size_t>(memory_of_[unit]); }

  template <class ColumnsIn, class SlotOf>
  void add(const MatrixSource& source, const ColumnsIn& columns_in, const SlotOf& slot_of) {
    auto job = std::make_unique<Job>();
    job->source = &source;
    job->resident = columns_in(Home::kResident);
    job->streamed = columns_in(Home::kStreamed);
    for (PlacedWeights& weights : weights_) job->slots.push_back(slot_of(weights));
    job->left = static_cast<int>(weights_.size());
    all_bytes_ += bytes_of(*job);
    jobs_.push_back(std::move(job));
  }

  static int64_t bytes_of(const Job& job) {
    return job.source->columns * row_bytes(job.source->dtype, job.source->k);
  }

  /// Units of one memory take turns at its matrices.
  void place_share(Device& device, size_t unit) {
    const size_t m = memory(unit);
    const auto first = memory_of_.begin();
    const auto turn = std::count(first, first + static_cast<ptrdiff_t>(unit), memory_of_[unit]);
    const auto turns = std::count(first, memory_of_.end(), memory_of_[unit]);
    AwakeDevice awake(device);
    for (size_t i = static_cast<size_t>(turn); i < jobs_.size(); i += static_cast<size_t>(turns)) {
      Job& job = *jobs_[i];
      if (!job.resident[m].empty() || !job.streamed[m].empty())
        std::call_once(job.prepared,
                       [&] { model_.storage->prepare(job.source->rows, bytes_of(job)); });
      for (const Range columns : job.resident[m])
        job.slots[m]->resident.push_back(device.place(*job.source, columns));
      for (const Range columns : job.streamed[m])
        job.slots[m]->streamed.push_back(device.place(*job.source, columns, Home::kStreamed));
      if (job.left.fetch_sub(1) == 1) finish(job);
    }
    awake.end();
  }

  /// Whether embedding rows will be read from this job's source.
  bool source_is_embedding(const Job& job) const {
    return job.source == &model_.lm_head && model_.spec.tied_embedding && reads_table_;
  }

  void finish(const Job& job) {
    if (options_.release && !source_is_embedding(job))
      model_.storage->release(job.source->rows, bytes_of(job));
    const std::lock_guard lock(progress_mutex_);
    placed_bytes_ += bytes_of(job);
    if (options_.progress) options_.progress(placed_bytes_, all_bytes_);
  }

  const Model& model_;
  const std::vector<std::unique_ptr<Device>>& devices_;
  const std::vector<int>& memory_of_;
  const PlacementOptions& options_;
  bool reads_table_ = true;
  std::vector<PlacedWeights> weights_;
  std::vector<std::unique_ptr<Job>> jobs_;
  std::mutex progress_mutex_;
  int64_t placed_bytes_ = 0, all_bytes_ = 0;
};

}  // namespace

const PlacedMatrix* piece_of(const MatrixPieces& pieces, Range columns, Home home) {
  for (const auto& piece : home == Home::kStreamed ? pieces.streamed : pieces.resident)
    if (piece->resident.contains(columns)) return piece.get();
  return nullptr;
}

std::vector<PlacedWeights> place_weights(const Model& model, std::span<const Plan> plans,
                                         const std::vector<std::unique_ptr<Device>>& devices,
                                         const std::vector<int>& memory_of,
                                         const PlacementOptions& options) {
  // The table is read row by row as the file stores it, and a tied head is placed from it.
  model.storage->prepare(
      model.embedding.rows,
      model.embedding.columns * row_bytes(model.embedding.dtype, model.embedding.k));
  return Placement(model, plans, devices, memory_of, options).run();
}

}  // namespace tandem
