// A CUDA unit's memory, queue, recordings and errors, on emulated devices. What its stages compute
// is tested with those of all other units.
#include <doctest/doctest.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstring>
#include <optional>
#include <span>
#include <stdexcept>
#include <thread>

#include "emulation/control.h"
#include "kernels/error.h"
#include "kernels/memory.h"
#include "test_data.h"

using namespace tandem;

namespace {

/// An emulated machine as a test wants it, and as it was afterwards.
class Machine {
 public:
  explicit Machine(int devices = 1) { cuda_emulation::set_devices(devices); }
  ~Machine() { cuda_emulation::reset(); }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
};

std::unique_ptr<Device> open(int index = 0) {
  return open_cuda_device({.index = index, .yield = true});
}

/// Host memory that units were told of.
template <class T>
class Exchanged {
 public:
  Exchanged(std::initializer_list<Device*> devices, int64_t count)
      : memory_(map_memory(count * static_cast<int64_t>(sizeof(T)))),
        values_(reinterpret_cast<T*>(memory_.get()), static_cast<size_t>(count)) {
    for (Device* device : devices)
      shares_.push_back(device->share(memory_.get(), static_cast<int64_t>(values_.size_bytes())));
  }

  T& operator[](int64_t i) const { return values_[static_cast<size_t>(i)]; }
  T* data() const { return values_.data(); }
  std::span<T> values() const { return values_; }
  Block block() const {
    return {.data = reinterpret_cast<std::byte*>(values_.data()),
            .rows = 1,
            .bytes = static_cast<int64_t>(values_.size_bytes())};
  }
  std::vector<T> copy() const { return {values_.begin(), values_.end()}; }
  void fill(T value) const { std::fill(values_.begin(), values_.end(), value); }
  void assign(const std::vector<T>& from) const {
    std::copy(from.begin(), from.end(), values_.begin());
  }

 private:
  std::shared_ptr<std::byte[]> memory_;
  std::span<T> values_;
  std::vector<std::shared_ptr<void>> shares_;  // end before the memory does
};

/// Calls f within a step and returns when it is done.
template <class Function>
void step(Device& device, const Function& f) {
  device.begin_step();
  f();
  device.launch();
  device.end_step();
}

/// What f throws, as text; "" where it throws nothing.
template <class Function>
std::string error_of(const Function& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

constexpr int64_t kK = 64, kColumns = 48, kTokens = 3;

/// y = W x of a few columns.
struct SmallLinear {
  explicit SmallLinear(std::initializer_list<Device*> devices)
      : x(devices, kTokens * kK), y(devices, kTokens * kColumns) {
    y.fill(-1);
    x.assign(random_floats(kTokens * kK, 2));
    for (Device* device : devices) step(*device, [&] { device->receive(x.block()); });
  }

  void run(Device& device, const PlacedMatrix& placed, Range columns = {0, kColumns},
           bool publish = true) const {
    device.linear({.input = {.x = x.data(), .tokens = kTokens},
                   .weights = &placed,
                   .columns = columns,
                   .y = y.data(),
                   .y_stride = kColumns,
                   .publish = publish});
  }

  TestMatrix weights = make_matrix(DType::kF32, kColumns, kK, 1);
  Exchanged<float> x, y;
};

}  // namespace

TEST_CASE("CUDA devices are listed with what they offer") {
  const Machine machine(2);
  const auto devices = list_cuda_devices();
  REQUIRE(devices.size() == 2);
  CHECK(devices[0].name != "");
  CHECK(devices[1].memory_bytes > 0);
  CHECK(contains(devices[1].capability, "."));
  CHECK(devices[0].stream_memory_ops);
  cuda_emulation::set_stream_memory_ops(false);
  CHECK_FALSE(list_cuda_devices()[0].stream_memory_ops);
  cuda_emulation::set_devices(0);
  CHECK(list_cuda_devices().empty());
}

TEST_CASE("a device that is not there, or whose driver is too old, is refused in one line") {
  const Machine machine(1);
  CHECK(error_of([] { open(1); }) ==
        "gpu1: no CUDA device 1 on this machine (1 found); remove it from the plan or run on one "
        "that has it");
  cuda_emulation::set_devices(0);
  CHECK(contains(error_of([] { open(0); }), "gpu0: no CUDA device 0 on this machine (0 found)"));
  cuda_emulation::set_devices(1);
  cuda_emulation::set_driver_version(12040);
  const std::string message = error_of([] { open(0); });
  CHECK(contains(message, "gpu0: the driver supports CUDA 12.4, and this program needs"));
  CHECK(contains(message, "update the driver"));
  CHECK(list_cuda_devices().empty());
}

TEST_CASE("a unit closes without a trace, in whatever order its memory goes") {
  const Machine machine(2);
  const auto before = cuda_emulation::live();
  {
    auto first = open(0), second = open(1);
    std::optional<Exchanged<float>> x(std::in_place,
                                      std::initializer_list{first.get(), second.get()}, 100);
    const auto cache = first->allocate(1000);
    const auto matrix = make_matrix(DType::kQ8_0, 32, 64, 1);
    const auto placed = first->place(matrix.source(), {0, 32});
    const auto streamed = second->place(matrix.source(), {0, 32}, Home::kStreamed);
    step(*first, [&] { first->receive(x->block()); });
    second.reset();
    step(*first, [&] { first->receive(x->block()); });  // registered still, by this device's share
    first.reset();
  }
  const auto after = cuda_emulation::live();
  CHECK(after.device_allocations == before.device_allocations);
  CHECK(after.pinned_allocations == before.pinned_allocations);
  CHECK(after.streams == before.streams);
  CHECK(after.events == before.events);
  CHECK(after.graphs == before.graphs);
}

TEST_CASE("a unit's own memory is zero and keeps what is written") {
  const Machine machine;
  const auto device = open();
  const auto memory = device->allocate(1000);
  std::vector<std::byte> bytes(1000, std::byte{7});
  device->read(bytes.data(), memory.get(), 1000);
  CHECK(std::count(bytes.begin(), bytes.end(), std::byte{0}) == 1000);
  std::fill(bytes.begin(), bytes.end(), std::byte{5});
  device->write(memory.get() + 10, bytes.data(), 20);
  device->read(bytes.data(), memory.get(), 1000);
  CHECK(std::count(bytes.begin(), bytes.end(), std::byte{5}) == 20);
  CHECK(bytes[10] == std::byte{5});
}

TEST_CASE("a unit sees what was written to exchanged memory when it is told to receive it") {
  const Machine machine;
  const auto device = open();
  const SmallLinear linear({device.get()});
  const auto placed = device->place(linear.weights.source(), {0, kColumns});
  const auto result = [&](bool receive) {
    step(*device, [&] {
      if (receive) device->receive(linear.x.block());
      linear.run(*device, *placed);
    });
    return linear.y.copy();
  };
  const auto first = result(false);
  linear.x.assign(random_floats(kTokens * kK, 20));
  CHECK(differing(result(false), first) == 0);
  const auto second = result(true);
  CHECK(differing(second, first) == kTokens * kColumns);
  const reference::Matrix exact = reference::linear(
      reference::from_floats(linear.x.data(), kTokens, kK), linear.weights.exact, {});
  check_near(second, exact, 1e-5);
}

TEST_CASE("a block of rows is received without what lies between them") {
  const Machine machine;
  const auto device = open();
  const SmallLinear linear({device.get()});
  const auto placed = device->place(linear.weights.source(), {0, kColumns});
  step(*device, [&] { linear.run(*device, *placed); });
  const auto first = linear.y.copy();
  linear.x.assign(random_floats(kTokens * kK, 20));
  // Rows 0 and 2.
  step(*device, [&] {
    device->receive(
        {.data = linear.x.block().data, .rows = 2, .bytes = kK * 4, .stride = 2 * kK * 4});
    linear.run(*device, *placed);
  });
  for (int64_t t = 0; t < kTokens; ++t)
    for (int64_t c = 0; c < kColumns; ++c)
      CHECK((linear.y[t * kColumns + c] == first[static_cast<size_t>(t * kColumns + c)]) ==
            (t == 1));
}

TEST_CASE("a result that is not published stays with the unit") {
  const Machine machine;
  const auto device = open();
  const SmallLinear linear({device.get()});
  const auto placed = device->place(linear.weights.source(), {0, kColumns});
  step(*device, [&] { linear.run(*device, *placed, {0, kColumns}, false); });
  CHECK(linear.y.copy() == std::vector<float>(kTokens * kColumns, -1));
  // The unit has it: a second linear reads it and publishes.
  Exchanged<float> z({device.get()}, kTokens * 16);
  const TestMatrix next = make_matrix(DType::kF32, 16, kColumns, 5);
  const auto placed_next = device->place(next.source(), {0, 16});
  step(*device, [&] {
    device->linear({.input = {.x = linear.y.data(), .tokens = kTokens},
                    .weights = placed_next.get(),
                    .columns = {0, 16},
                    .y = z.data(),
                    .y_stride = 16});
  });
  const reference::Matrix between = reference::linear(
      reference::from_floats(linear.x.data(), kTokens, kK), linear.weights.exact, {});
  check_near(z.copy(), reference::linear(between, next.exact, {}), 1e-5);
}

TEST_CASE("where a device shares the host's memory nothing is copied") {
  const Machine machine;
  cuda_emulation::set_integrated(true);
  CHECK(list_cuda_devices()[0].unified);
  const auto device = open();
  const SmallLinear linear({device.get()});
  const auto placed =
      device->place(linear.weights.source(), {0, kColumns}, Home::kStreamed);  // resident, in fact
  linear.x.assign(random_floats(kTokens * kK, 20));
  step(*device, [&] { linear.run(*device, *placed, {0, kColumns}, false); });
  const reference::Matrix exact = reference::linear(
      reference::from_floats(linear.x.data(), kTokens, kK), linear.weights.exact, {});
  check_near(linear.y.copy(), exact, 1e-5);
}

TEST_CASE("memory that was not shared is our mistake") {
  const Machine machine;
  const auto device = open();
  const SmallLinear linear({device.get()});
  const auto placed = device->place(linear.weights.source(), {0, kColumns});
  std::vector<float> y(kTokens * kColumns);
  device->begin_step();
  CHECK_THROWS_AS(device->linear({.input = {.x = linear.x.data(), .tokens = kTokens},
                                  .weights = placed.get(),
                                  .columns = {0, kColumns},
                                  .y = y.data(),
                                  .y_stride = kColumns}),
                  std::logic_error);
  CHECK_NOTHROW(device->end_step());
  CHECK_THROWS_AS(device->share(linear.x.block().data + 4, 100), std::logic_error);
  CHECK_THROWS_AS(device->share(linear.x.block().data, 100), std::logic_error);
  step(*device, [&] { linear.run(*device, *placed); });  // and the unit goes on
}

namespace {

/// A matrix of 4.3 slots of 16 MiB: the first slot is used twice. Cheap values, no reference.
struct WideMatrix {
  static constexpr int64_t kWide = 1100, kDeep = 16384;
  std::vector<float> rows = [] {
    std::vector<float> values(static_cast<size_t>(kWide * kDeep));
    uint32_t state = 1;
    for (float& value : values) {
      state = state * 1664525u + 1013904223u;
      value = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-36f;
    }
    return values;
  }();
  MatrixSource source() const {
    return {.dtype = DType::kF32,
            .columns = kWide,
            .k = kDeep,
            .rows = reinterpret_cast<const std::byte*>(rows.data())};
  }
};

}  // namespace

TEST_CASE("resident and streamed weights give the same bits, in one step and in replayed ones") {
  const Machine machine;
  const auto device = open();
  constexpr int64_t kWide = WideMatrix::kWide, kDeep = WideMatrix::kDeep;
  const WideMatrix matrix;
  Exchanged<float> x({device.get()}, kDeep), y({device.get()}, kWide);
  x.assign(random_floats(kDeep, 3));
  const auto run = [&](Home home, uint64_t recording, int times) {
    const auto placed = device->place(matrix.source(), {0, kWide}, home);
    std::vector<float> result;
    for (int i = 0; i < times; ++i) {
      y.fill(-1);
      if (!device->begin_step(recording)) {
        device->receive(x.block());
        device->linear({.input = {.x = x.data(), .tokens = 1},
                        .weights = placed.get(),
                        .columns = {16, kWide},
                        .y = y.data(),
                        .y_stride = kWide});
        device->launch();
      }
      device->end_step();
      if (i > 0) CHECK(differing(result, y.copy()) == 0);
      result = y.copy();
    }
    device->forget_recordings();
    return result;
  };
  const auto resident = run(Home::kResident, 0, 1);
  CHECK(resident[15] == -1);
  CHECK(std::count(resident.begin() + 16, resident.end(), -1.0f) == 0);
  CHECK(differing(run(Home::kStreamed, 0, 1), resident) == 0);
  // The emulation replays with copies as early and as late as the recording allows.
  CHECK(differing(run(Home::kStreamed, 1, 3), resident) == 0);
}

TEST_CASE("gate streamed and up resident, or both streamed, give the same bits as both resident") {
  const Machine machine;
  const auto device = open();
  Exchanged<float> x({device.get()}, kTokens * kK), h({device.get()}, kTokens * kColumns);
  x.assign(random_floats(kTokens * kK, 3));
  const auto gate = make_matrix(DType::kQ4_0, kColumns, kK, 1);
  const auto up = make_matrix(DType::kBF16, kColumns, kK, 2);
  const auto run = [&](Home gate_home, Home up_home) {
    const auto placed_gate = device->place(gate.source(), {0, kColumns}, gate_home);
    const auto placed_up = device->place(up.source(), {0, kColumns}, up_home);
    step(*device, [&] {
      device->receive(x.block());
      device->gate_up({.input = {.x = x.data(), .tokens = kTokens},
                       .gate = placed_gate.get(),
                       .up = placed_up.get(),
                       .columns = {0, kColumns},
                       .h = h.data(),
                       .h_stride = kColumns});
    });
    return h.copy();
  };
  const auto resident = run(Home::kResident, Home::kResident);
  CHECK(differing(run(Home::kStreamed, Home::kResident), resident) == 0);
  CHECK(differing(run(Home::kResident, Home::kStreamed), resident) == 0);
  CHECK(differing(run(Home::kStreamed, Home::kStreamed), resident) == 0);
}

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
                       .context = {0, kOpenEnd},
                       .include_new = true,
                       .step = step_,
                       .out = attended_.data()});
    device_.commit(
        {.step = step_, .cache = cache_, .rows = rows_.values(), .first_position = past});
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
  for (const bool stream_memory_ops : {true, false}) {
    const Machine machine;
    cuda_emulation::set_stream_memory_ops(stream_memory_ops);
    const auto eager = open(), recorded = open();
    Layer plain(*eager), layer(*recorded);
    recorded->reserve({.tokens = 2, .k = kK, .context = 512, .heads = 4, .head_dim = 32});
    bool replayed = false;
    for (const int64_t past : {3, 20, 270, 0}) {
      CHECK(plain.run(past, 0, false) == layer.run(past, 7, replayed));
      replayed = true;
    }
    // Without a reserve() too: scratch grows while the step is recorded.
    const auto growing = open();
    Layer last(*growing), again(*eager);
    CHECK(last.run(20, 1, false) == again.run(20, 0, false));
    CHECK(last.run(300, 1, true) == again.run(300, 0, false));
    growing->reserve({.tokens = 40, .k = 1000, .context = 512, .heads = 4, .head_dim = 32});
    CHECK(last.run(40, 1, false) == again.run(40, 0, false));
    growing->forget_recordings();
    CHECK(last.run(400, 1, false) == again.run(400, 0, false));
  }
}

TEST_CASE("scratch that grows is not taken from what is queued or recorded before") {
  const Machine machine;
  const auto device = open();
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
  const Machine machine;
  const auto device = open();
  Layer layer(*device);
  for (uint64_t recording = 1; recording <= 70; ++recording) layer.run(20, recording, false);
  layer.run(20, 70, true);
  layer.run(20, 1, false);
}

TEST_CASE("a unit waits for the host and the host for the unit, in a step at once and replayed") {
  for (const bool stream_memory_ops : {true, false}) {
    const Machine machine;
    cuda_emulation::set_stream_memory_ops(stream_memory_ops);
    const auto device = open();
    constexpr int64_t kTurns = 8;
    Exchanged<Flag> to_unit({device.get()}, kTurns), to_host({device.get()}, kTurns);
    Exchanged<float> x({device.get()}, kTurns * kK), y({device.get()}, kTurns * 16);
    const auto matrix = make_matrix(DType::kF32, 16, kK, 1);
    const auto placed = device->place(matrix.source(), {0, 16});
    for (const uint64_t recording : {0, 5, 5, 5}) {
      const auto values = random_floats(kTurns * kK, 10);
      x.fill(0);
      y.fill(0);
      std::vector<float> seen(kTurns * 16);
      std::thread host([&] {
        for (int64_t turn = 0; turn < kTurns; ++turn) {
          std::copy_n(values.begin() + turn * kK, kK, x.data() + turn * kK);
          to_unit[turn].raise();
          while (!to_host[turn].take()) relax(true);
          std::copy_n(y.data() + turn * 16, 16, seen.begin() + turn * 16);
        }
      });
      if (!device->begin_step(recording))
        for (int64_t turn = 0; turn < kTurns; ++turn) {
          device->wait(to_unit[turn]);
          device->receive({.data = x.block().data + turn * kK * 4, .rows = 1, .bytes = kK * 4});
          device->linear({.input = {.x = x.data() + turn * kK, .tokens = 1},
                          .weights = placed.get(),
                          .columns = {0, 16},
                          .y = y.data() + turn * 16,
                          .y_stride = 16});
          device->raise(to_host[turn]);
        }
      device->launch();
      device->end_step();
      host.join();
      check_near(
          seen,
          reference::linear(reference::from_floats(values.data(), kTurns, kK), matrix.exact, {}),
          1e-5);
      for (int64_t turn = 0; turn < kTurns; ++turn) {
        CHECK(to_unit[turn].value == Flag::kLowered);
        CHECK(to_host[turn].value == Flag::kLowered);
      }
    }
  }
}

TEST_CASE("a cancelled flag lets a stream go on, and a unit that has to be closed") {
  for (const bool stream_memory_ops : {true, false}) {
    const Machine machine;
    cuda_emulation::set_stream_memory_ops(stream_memory_ops);
    auto device = open();
    Exchanged<Flag> flags({device.get()}, 2);
    for (const uint64_t recording : {0, 5, 5}) {
      flags[0].value = Flag::kLowered;
      if (!device->begin_step(recording)) {
        device->wait(flags[0]);
        device->raise(flags[1]);
      }
      device->launch();
      CHECK_FALSE(flags[1].take());
      flags[0].cancel();
      device->end_step();
      CHECK(flags[1].take());
    }
    // A step that its driver left in the middle.
    device->begin_step();
    device->wait(flags[0]);
    flags[0].cancel();
    device.reset();
    CHECK_FALSE(flags[1].take());
  }
}

TEST_CASE("two units compute halves of one buffer and hand them over") {
  const Machine machine(2);
  const auto first = open(0), second = open(1);
  const SmallLinear linear({first.get(), second.get()});
  Exchanged<float> z({first.get(), second.get()}, kTokens * 32);
  Exchanged<Flag> done({first.get(), second.get()}, 2);
  const TestMatrix next = make_matrix(DType::kF32, 32, kColumns, 5);
  std::barrier between_steps(2);  // as the executor has it
  // Each computes its columns of y, takes over the other's, and computes its columns of z.
  const auto half = [&](Device& device, int64_t unit, uint64_t recording) {
    const auto placed = device.place(linear.weights.source(), {0, kColumns});
    const auto placed_next = device.place(next.source(), {0, 32});
    const Range mine = unit == 0 ? Range{0, 16} : Range{16, kColumns};
    const Range others = unit == 0 ? Range{16, kColumns} : Range{0, 16};
    for (int i = 0; i < 3; ++i) {
      if (!device.begin_step(recording)) {
        linear.run(device, *placed, mine);
        device.raise(done[1 - unit]);
        device.wait(done[unit]);
        device.receive({.data = linear.y.block().data + others.begin * 4,
                        .rows = kTokens,
                        .bytes = others.size() * 4,
                        .stride = kColumns * 4});
        device.linear({.input = {.x = linear.y.data(), .tokens = kTokens},
                       .weights = placed_next.get(),
                       .columns = {16 * unit, 16 * unit + 16},
                       .y = z.data(),
                       .y_stride = 32});
      }
      device.launch();
      device.end_step();
      between_steps.arrive_and_wait();
    }
    device.forget_recordings();
  };
  for (const uint64_t recording : {0, 1}) {
    z.fill(-1);
    linear.y.fill(-1);
    std::thread other([&] { half(*second, 1, recording); });
    half(*first, 0, recording);
    other.join();
    const reference::Matrix y = reference::linear(
        reference::from_floats(linear.x.data(), kTokens, kK), linear.weights.exact, {});
    check_near(z.copy(), reference::linear(y, next.exact, {}), 1e-5);
  }
}

TEST_CASE("stamps are in order and on the host's clock") {
  const Machine machine;
  const auto device = open();
  Exchanged<int64_t> stamps({device.get()}, 2);
  const auto now = [] {
    return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  };
  for (const uint64_t recording : {0, 1, 1}) {
    const int64_t before = now();
    if (!device->begin_step(recording)) {
      device->stamp(&stamps[0]);
      device->stamp(&stamps[1]);
    }
    device->launch();
    device->end_step();
    constexpr int64_t kSecond = 1'000'000'000;  // no threshold of time: the clocks differ by years
    CHECK(stamps[0] > before - kSecond);
    CHECK(stamps[0] <= stamps[1]);
    CHECK(stamps[1] < now() + kSecond);
  }
}

TEST_CASE("many tokens go by matrix products, or 16 at a time with the bits of few tokens") {
  constexpr int64_t kMany = 37;
  const auto matrix = make_matrix(DType::kQ8_0, kColumns, kK, 1);
  const auto run = [&](Device& device, std::vector<Range> tokens) {
    Exchanged<float> x({&device}, kMany * kK), y({&device}, kMany * kColumns);
    y.fill(1);
    x.assign(random_floats(kMany * kK, 3));
    const auto placed = device.place(matrix.source(), {0, kColumns});
    step(device, [&] {
      device.receive(x.block());
      device.receive(y.block());
      for (const Range& range : tokens)
        device.linear({.input = {.x = x.data() + range.begin * kK, .tokens = range.size()},
                       .weights = placed.get(),
                       .columns = {0, kColumns},
                       .y = y.data() + range.begin * kColumns,
                       .y_stride = kColumns,
                       .add = true});
    });
    return std::pair(
        y.copy(), reference::linear(reference::from_floats(x.data(), kMany, kK), matrix.exact, {}));
  };
  const Machine machine;
  const auto with_products = run(*open(), {{0, kMany}});
  check_near(with_products.first, (with_products.second.array() + 1).matrix(), 2e-2);
  cuda_emulation::set_blas(false);
  const auto tiles = run(*open(), {{0, kMany}});
  const auto few = run(*open(), {{0, 10}, {10, 26}, {26, kMany}});
  CHECK(differing(tiles.first, few.first) == 0);
}

TEST_CASE("embedding rows and the largest value are the driver's work") {
  const Machine machine;
  const auto device = open();
  const auto table = make_matrix(DType::kQ4_0, 10, kK, 1);
  const std::vector<int32_t> ids{7, 0};
  std::vector<float> x(2 * kK);
  device->embed({.table = table.source(), .token_ids = ids, .x = x.data()});
  reference::Matrix exact(2, kK);
  exact << table.exact.row(7), table.exact.row(0);
  check_near(x, exact, 1e-6);
  std::vector<float> values(1000, 1);
  values[700] = values[300] = 2;
  CHECK(device->argmax(values.data(), 1000) == 300);
}

TEST_CASE("memory that a device has not got is refused with what to do about it") {
  const Machine machine;
  cuda_emulation::set_memory_bytes(1 << 20);
  const auto device = open();
  const auto matrix = make_matrix(DType::kF32, 1024, 512, 1);  // 2 MiB
  device->begin_step();
  const std::string message = error_of([&] { device->place(matrix.source(), {0, 1024}); });
  CHECK(contains(message, "gpu0: the device refused 2097152 bytes of "));
  CHECK(contains(message, " free; use --budget gpu0=... or a smaller context"));
  CHECK_NOTHROW(device->end_step());
  CHECK(contains(error_of([&] { device->allocate(2 << 20); }), "gpu0: the device refused"));
  // The unit goes on with what there is.
  const auto small = device->allocate(1000);
  std::vector<std::byte> bytes(1000, std::byte{1});
  device->read(bytes.data(), small.get(), 1000);
  CHECK(bytes[999] == std::byte{0});
}

TEST_CASE("a device that is lost is an error of the step, once, and the unit can be closed") {
  for (const uint64_t recording : {0, 1}) {
    for (int calls = 0; calls < 6; ++calls) {
      CAPTURE(calls);
      const Machine machine;
      auto device = open();
      const SmallLinear linear({device.get()});
      const auto placed = device->place(linear.weights.source(), {0, kColumns});
      const auto run = [&] {
        if (!device->begin_step(recording)) {
          device->receive(linear.x.block());
          linear.run(*device, *placed);
        }
        device->launch();
        device->end_step();
      };
      run();
      if (calls % 2 == 0) {
        cuda_emulation::fail_after(calls / 2);
      } else {
        cuda_emulation::fail_while_running_after(calls / 2);
      }
      std::string message;
      for (int i = 0; i < 4 && message.empty(); ++i) message = error_of(run);
      CHECK(contains(message, "gpu0: CUDA: "));
      CHECK_NOTHROW(device->end_step());
      CHECK_NOTHROW(device.reset());
    }
  }
}

TEST_CASE("memory is not made while a step is recorded") {
  const Machine machine;
  const auto device = open();
  const SmallLinear linear({device.get()});
  const auto placed = device->place(linear.weights.source(), {0, kColumns});
  device->begin_step(1);
  CHECK_THROWS_AS(device->allocate(100), std::logic_error);
  device->end_step();
  // What was recorded up to there is dropped.
  CHECK_FALSE(device->begin_step(1));
  linear.run(*device, *placed);
  device->launch();
  device->end_step();
  CHECK(device->begin_step(1));
  device->end_step();
}
