// Steps of a CUDA unit that are recorded, and replayed with other values.
#include "cuda_unit.h"

using namespace tandem;

namespace {

/// One layer's qkv, attention and commit of two tokens at a depth that is looked up.
class Layer {
 public:
  explicit Layer(Device& device) : device_(device) {
    const int64_t cache_bytes = cache_.k_head_bytes() * kHeads;
    keys_ = device.allocate(cache_bytes);
    values_ = device.allocate(cache_.v_head_bytes() * kHeads);
    std::vector<std::byte> bytes(static_cast<size_t>(cache_bytes));
    const auto floats = random_floats(cache_bytes / 2, 4);
    for (size_t i = 0; i < floats.size(); ++i) {
      const uint16_t half = f32_to_f16(floats[i]);
      std::memcpy(&bytes[2 * i], &half, sizeof half);
    }
    device.write(keys_.get(), bytes.data(), cache_bytes);
    device.write(values_.get(), bytes.data(), cache_bytes);
    cache_.k = keys_.get();
    cache_.v = values_.get();
    step_.k = reinterpret_cast<std::byte*>(step_memory_.data());
    step_.v = step_.k + step_.k_head_bytes() * kHeads;
    rows_[0] = 0;
    rows_[1] = -1;
    x_.assign(random_floats(kNew * kK, 5));
    cos_sin_.assign(random_floats(kNew * kHeadDim, 6));
  }

  /// Everything that the step leaves, as bits.
  std::vector<std::byte> run(int64_t past, uint64_t recording, bool replayed) {
    past_[0] = past;
    const bool recorded = device_.begin_step(recording);
    CHECK(recorded == replayed);
    if (!recorded) queue();
    device_.launch();
    device_.end_step();
    std::vector<std::byte> left;
    const auto append = [&](const Block& block) {
      left.insert(left.end(), block.data, block.data + block.bytes);
    };
    append(q_.block());
    append(attended_.block());
    append(step_memory_.block());
    const auto cache_bytes = static_cast<size_t>(cache_.k_head_bytes() * kHeads);
    left.resize(left.size() + cache_bytes);
    device_.read(left.data() + left.size() - cache_bytes, keys_.get(),
                 static_cast<int64_t>(cache_bytes));
    return left;
  }

 private:
  static constexpr int64_t kHeads = 2, kGroup = 2, kHeadDim = 32, kNew = 2;
  static constexpr int64_t kQ = kHeads * kGroup * kHeadDim;

  void queue() {
    const auto past = StepValue::looked_up(past_.data());
    for (const Block& block : {past_.block(), x_.block(), cos_sin_.block(), rows_.block()})
      device_.receive(block);
    device_.qkv({.input = {.x = x_.data(), .tokens = kNew},
                 .wq = wq_.get(),
                 .wk = wk_.get(),
                 .wv = wv_.get(),
                 .kv_heads = {0, kHeads},
                 .group = kGroup,
                 .head_dim = kHeadDim,
                 .rope_dim = kHeadDim,
                 .cos_sin = cos_sin_.data(),
                 .past = past,
                 .q = q_.data(),
                 .q_stride = kQ,
                 .step = step_});
    device_.attention({.tokens = kNew,
                       .past = past,
                       .kv_heads = {0, kHeads},
                       .group = kGroup,
                       .head_dim = kHeadDim,
                       .scale = 0.2f,
                       .q = q_.data(),
                       .q_stride = kQ,
                       .cache = cache_,
                       .context = kAll,
                       .include_new = true,
                       .step = step_,
                       .out = attended_.data()});
    const CommitCache to{step_, cache_};
    device_.commit({.caches = {&to, 1}, .rows = rows_.values(), .first_position = past});
  }

  static std::shared_ptr<const PlacedMatrix> random_matrix(Device& device, int64_t columns,
                                                           uint64_t seed) {
    return device.place(
        make_matrix(DType::kF32, columns, kK, seed, Values::kRandom, kHeadDim).source(),
        {0, columns});
  }

  Device& device_;
  std::shared_ptr<const PlacedMatrix> wq_ = random_matrix(device_, kQ, 1),
                                      wk_ = random_matrix(device_, kHeads*kHeadDim, 2),
                                      wv_ = random_matrix(device_, kHeads*kHeadDim, 3);
  KvView cache_{.kv_heads = {0, kHeads}, .positions = {0, 512}, .head_dim = kHeadDim};
  KvView step_{.kv_heads = {0, kHeads}, .positions = {0, 32}, .head_dim = kHeadDim};
  std::shared_ptr<std::byte[]> keys_, values_;
  Exchanged<int64_t> past_{{&device_}, 1};
  Exchanged<int32_t> rows_{{&device_}, kNew};
  Exchanged<float> x_{{&device_}, kNew* kK};
  Exchanged<float> cos_sin_{{&device_}, kNew* kHeadDim};
  Exchanged<float> q_{{&device_}, kNew* kQ};
  Exchanged<float> attended_{{&device_}, kNew* kQ};
  Exchanged<uint16_t> step_memory_{{&device_}, 2 * kHeads * 32 * kHeadDim};
};

}  // namespace

TEST_CASE("a step leaves the same bits at once, recorded and replayed at another depth") {
  const auto eager = open_unit(), recorded = open_unit();
  Layer plain(*eager), layer(*recorded);
  recorded->reserve({.tokens = 2, .k = kK, .context = 512, .heads = 4, .head_dim = 32});
  bool replayed = false;
  for (const int64_t past : {3, 20, 270, 0}) {
    CHECK(plain.run(past, 0, false) == layer.run(past, 7, replayed));
    replayed = true;
  }
  // Without a reserve() too: scratch grows while the step is recorded.
  const auto growing = open_unit();
  Layer last(*growing), again(*eager);
  CHECK(last.run(20, 1, false) == again.run(20, 0, false));
  CHECK(last.run(300, 1, true) == again.run(300, 0, false));
  growing->reserve({.tokens = 40, .k = 1000, .context = 512, .heads = 4, .head_dim = 32});
  CHECK(last.run(40, 1, false) == again.run(40, 0, false));
  growing->forget_recordings();
  CHECK(last.run(400, 1, false) == again.run(400, 0, false));
}

TEST_CASE("scratch that grows is not taken from what is queued or recorded before") {
  const auto device = open_unit();
  constexpr int64_t kDeep = 4096;
  const auto small = make_matrix(DType::kQ8_0, 16, kK, 1);
  const auto large = make_matrix(DType::kQ8_0, 16, kDeep, 2);
  const auto placed_small = device->place(small.source(), {0, 16});
  const auto placed_large = device->place(large.source(), {0, 16});
  Exchanged<float> x({device.get()}, kDeep), y({device.get()}, 16), z({device.get()}, 16);
  x.assign(random_floats(kDeep, 3));
  const auto multiply = [&](const PlacedMatrix& weights, const Exchanged<float>& to) {
    device->linear({.input = {.x = x.data(), .tokens = 1},
                    .weights = &weights,
                    .columns = {0, 16},
                    .y = to.data(),
                    .y_stride = 16});
  };
  const auto run = [&](uint64_t recording, const PlacedMatrix* second) {
    y.fill(0);
    if (!device->begin_step(recording)) {
      device->receive(x.block());
      multiply(*placed_small, y);
      if (second != nullptr) multiply(*second, z);
    }
    device->launch();
    device->end_step();
    return y.copy();
  };
  const auto first = run(1, nullptr);
  CHECK(differing(run(2, placed_large.get()), first) == 0);  // grows behind the first linear
  const auto other = z.copy();
  CHECK(differing(run(1, nullptr), first) == 0);
  CHECK(differing(run(2, placed_large.get()), first) == 0);
  CHECK(differing(z.copy(), other) == 0);
  device->forget_recordings();
  CHECK(differing(run(1, placed_large.get()), first) == 0);
}

TEST_CASE("many recordings are kept, and the first are recorded again") {
  const auto device = open_unit();
  Layer layer(*device);
  for (uint64_t recording = 1; recording <= 70; ++recording) layer.run(20, recording, false);
  layer.run(20, 70, true);
  layer.run(20, 1, false);
}
