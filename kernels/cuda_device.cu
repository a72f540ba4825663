// A CUDA unit's life: opening it, its memory, and its steps.
#include <stdexcept>

#include "kernels/cuda_device.cuh"
#include "kernels/kernel_set.h"
#include "kernels/team.h"

namespace tandem {
namespace {

/// Of the devices that the driver lists; 0 where there is no driver.
int count_devices() {
  int count = 0, driver = 0, runtime = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess) return count;
  cudaGetLastError();
  cudaDriverGetVersion(&driver);
  if (status == cudaErrorNoDevice || driver == 0) return 0;
  if (status != cudaErrorInsufficientDriver) cuda::check(status, "cudaGetDeviceCount");
  cudaRuntimeGetVersion(&runtime);
  throw Error(
      fmt::format("the driver supports CUDA {}.{}, and this program needs {}.{}: update the driver",
                  driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10));
}

int attribute(cudaDeviceAttr name, int device) {
  int value = 0;
  TANDEM_CUDA_CHECK(cudaDeviceGetAttribute(&value, name, device));
  return value;
}

CudaDeviceInfo describe(int device) {
  cudaDeviceProp properties{};
  TANDEM_CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
  return {.name = properties.name,
          .capability = fmt::format("{}.{}", properties.major, properties.minor),
          .memory_bytes = static_cast<int64_t>(properties.totalGlobalMem),
          .unified = attribute(cudaDevAttrIntegrated, device) != 0,
          .stream_memory_ops = cuda::find_stream_memory_ops().available()};
}

void require_device(int index) {
  const int count = count_devices();
  if (index >= 0 && index < count) return;
  throw Error(
      fmt::format("no CUDA device {} on this machine ({} found); remove it from the plan or run on "
                  "one that has it",
                  index, count));
}

}  // namespace

std::vector<CudaDeviceInfo> list_cuda_devices() {
  std::vector<CudaDeviceInfo> devices;
  try {
    const int count = count_devices();
    for (int device = 0; device < count; ++device) devices.push_back(describe(device));
  } catch (const Error&) {
    return {};  // open_cuda_device() says why
  }
  return devices;
}

std::unique_ptr<Device> open_cuda_device(const CudaDeviceOptions& options) {
  try {
    require_device(options.index);
  } catch (const Error& error) {
    throw Error(fmt::format("gpu{}: {}", options.index, error.what()));
  }
  return cuda::as_unit(options.index, [&]() -> std::unique_ptr<Device> {
    return std::make_unique<cuda::CudaDevice>(options);
  });
}

}  // namespace tandem

namespace tandem::cuda {

CudaDevice::CudaDevice(const CudaDeviceOptions& options)
    : options_(options),
      queue_(options.yield),
      clock_(options.index, queue_.stream()),
      exchanged_(options.index, attribute(cudaDevAttrIntegrated, options.index) != 0,
                 queue_.stream()),
      loader_(options.index, queue_.stream()) {}

CudaDevice::~CudaDevice() {
  cudaSetDevice(options_.index);
  queue_.drain();
  if (blas_ != nullptr) close_blas(blas_);
}

/// Memory is made and copied between steps, or in one that runs at once.
void CudaDevice::require_no_recording() const {
  if (queue_.recording())
    throw std::logic_error("memory is made or copied while a step is recorded");
}

std::shared_ptr<const PlacedMatrix> CudaDevice::place(const MatrixSource& source, Range columns,
                                                      Home home) {
  return on_device([&] {
    require_no_recording();
    // Where the device's memory is the host's, there is nothing to stream.
    if (exchanged_.unified()) home = Home::kResident;
    if (home == Home::kStreamed) copies_.reserve(options_.index);
    return loader_.place(source, columns, home);
  });
}

std::shared_ptr<std::byte[]> CudaDevice::allocate(int64_t bytes) {
  return on_device([&] {
    require_no_recording();
    Bytes memory = device_memory(options_.index, bytes);
    TANDEM_CUDA_CHECK(cudaMemsetAsync(memory.get(), 0, static_cast<size_t>(bytes), stream()));
    TANDEM_CUDA_CHECK(cudaStreamSynchronize(stream()));
    return memory;
  });
}

void CudaDevice::copy(std::byte* to, const std::byte* from, int64_t bytes, cudaMemcpyKind kind) {
  on_device([&] {
    require_no_recording();
    TANDEM_CUDA_CHECK(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), kind, stream()));
    TANDEM_CUDA_CHECK(cudaStreamSynchronize(stream()));
  });
}

void CudaDevice::write(std::byte* to, const std::byte* from, int64_t bytes) {
  copy(to, from, bytes, cudaMemcpyHostToDevice);
}

void CudaDevice::read(std::byte* to, const std::byte* from, int64_t bytes) {
  copy(to, from, bytes, cudaMemcpyDeviceToHost);
}

std::shared_ptr<void> CudaDevice::share(std::byte* memory, int64_t bytes) {
  return on_device([&] {
    require_no_recording();
    return exchanged_.share(memory, bytes);
  });
}

DeviceValue CudaDevice::value(const StepValue& v) const {
  return {.at = own(v.at), .fixed = v.fixed};
}

KvView CudaDevice::own(KvView view) const {
  view.k = own(view.k);
  view.v = own(view.v);
  return view;
}

void CudaDevice::wait(Flag& flag) {
  on_device([&] { queue_.wait(exchanged_.shared(&flag)); });
}

void CudaDevice::raise(Flag& flag) {
  on_device([&] { queue_.raise(exchanged_.shared(&flag)); });
}

void CudaDevice::read_all(const std::byte* memory, int64_t bytes) {
  on_device([&] {
    auto* never = reinterpret_cast<uint32_t*>(grow(never_, sizeof(uint32_t)));
    cuda::read_all(memory, bytes, never, stream());
  });
}

void CudaDevice::stamp(int64_t* ns) {
  on_device([&] {
    cuda::stamp(exchanged_.shared(ns), clock_.offset(), stream());
    stamped_ = true;
  });
}

bool CudaDevice::begin_step(uint64_t recording) {
  if (options_.core >= 0) pin_this_thread(options_.core);
  failed_ = false;
  return on_device([&] {
    if (queue_.begin(recording)) return true;
    copies_.begin_step(stream());
    return false;
  });
}

void CudaDevice::launch() {
  on_device([&] {
    copies_.join(stream());
    queue_.launch();
  });
}

void CudaDevice::check() {
  on_device([&] { queue_.check(); });
}

void CudaDevice::end_step() {
  if (std::exchange(failed_, false)) return;  // whoever called knows
  on_device([&] {
    if (queue_.recording()) copies_.join(stream());
    queue_.finish();
    if (!queue_.has_recordings()) retired_.clear();
    if (stamped_) clock_.refresh();
  });
}

void CudaDevice::forget_recordings() {
  queue_.forget();
  retired_.clear();
}

}  // namespace tandem::cuda
