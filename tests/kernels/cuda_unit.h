// CUDA units for tests of Device, on emulated devices and on real ones, with the memory and the
// small steps that tests try on them.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/error.h"
#include "kernels/memory.h"
#include "test_data.h"

namespace tandem {

/// Devices are taken in turn, so that two units of a machine with one are on that.
inline std::unique_ptr<Device> open_unit(int number = 0) {
  const int devices = std::max(1, static_cast<int>(list_cuda_devices().size()));
  return open_cuda_device({.index = number % devices, .yield = true});
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

inline constexpr int64_t kK = 64, kColumns = 48, kTokens = 3;

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
  reference::Matrix exact() const {
    return reference::linear(reference::from_floats(x.data(), kTokens, kK), weights.exact, {});
  }

  TestMatrix weights = make_matrix(DType::kF32, kColumns, kK, 1);
  Exchanged<float> x, y;
};

}  // namespace tandem
