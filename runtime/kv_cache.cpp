// Where keys and values live: memory per unit and layer, and seeded contents for runs at depth.
#include <cstring>

#include "kernels/half.h"
#include "runtime/placement.h"

namespace tandem {

namespace {

void allocate(Device& device, PlacedKv& kv) {
  const int64_t heads = kv.view.kv_heads.size();
  const int64_t k_bytes = round_up(heads * kv.view.k_head_bytes(), 64);
  kv.memory = device.allocate(k_bytes + heads * kv.view.v_head_bytes());
  kv.view.k = kv.memory.get();
  kv.view.v = kv.memory.get() + k_bytes;
}

}  // namespace

std::vector<std::vector<PlacedKv>> place_kv(const Model& model, const Plan& plan,
                                            const std::vector<std::unique_ptr<Device>>& devices,
                                            int64_t max_context) {
  const auto layers = static_cast<size_t>(model.spec.num_layers);
  std::vector<std::vector<PlacedKv>> kv(devices.size(), std::vector<PlacedKv>(layers));
  for (KvHome home : kv_homes(plan, model.spec)) {
    home.positions = intersect(home.positions, {0, round_up(max_context, kAttentionChunk)});
    if (home.positions.empty()) continue;
    PlacedKv& held = kv[static_cast<size_t>(home.unit)][static_cast<size_t>(home.layer)];
    held.view.kv_heads = hull(held.view.kv_heads, home.kv_heads);
    held.view.positions = hull(held.view.positions, home.positions);
    held.homes.push_back(home);
  }
  // A unit's homes in a layer may be ragged; memory spans their hull, of which untouched pages cost
  // nothing.
  for (size_t unit = 0; unit < devices.size(); ++unit)
    for (PlacedKv& held : kv[unit]) {
      if (held.homes.empty()) continue;
      held.view.dtype = plan.kv_dtype;
      held.view.head_dim = model.spec.head_dim;
      allocate(*devices[unit], held);
    }
  return kv;
}

namespace {

/// splitmix64 (Steele, Lea and Flood 2014).
uint64_t next_random(uint64_t& state) {
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/// Uniform in [-1, 1): magnitudes of keys and values after a norm.
float next_value(uint64_t& state) {
  return static_cast<float>(static_cast<int32_t>(next_random(state) >> 32)) * 0x1p-31f;
}

void write_element(DType dtype, float value, std::byte* out) {
  if (dtype == DType::kF32) {
    std::memcpy(out, &value, sizeof value);
    return;
  }
  const uint16_t half = f32_to_f16(value);
  std::memcpy(out, &half, sizeof half);
}

/// Row `row` of a view of one head.
void fill_row(const KvView& view, int64_t row, uint64_t seed) {
  const int64_t element = info(view.dtype).block_bytes;
  for (int64_t d = 0; d < view.head_dim; ++d) {
    write_element(view.dtype, next_value(seed), view.key(0, row) + 16 * d * element);
    write_element(view.dtype, next_value(seed), view.value(0, row) + d * element);
  }
}

/// Positions of one head, made on the host and written to where they live.
void fill_head(const KvView& to, Device& device, int64_t layer, int64_t head, Range positions,
               uint64_t seed) {
  KvView made = to;
  made.kv_heads = {0, 1};
  made.positions = {0, round_up(positions.size(), 16)};
  std::vector<std::byte> k(static_cast<size_t>(made.k_head_bytes()));
  std::vector<std::byte> v(static_cast<size_t>(made.v_head_bytes()));
  made.k = k.data();
  made.v = v.data();
  for (int64_t p = positions.begin; p < positions.end; ++p) {
    const auto key = static_cast<uint64_t>((layer << 44) + (head << 32) + p);
    fill_row(made, p - positions.begin, seed * 0x2545f4914f6cdd1du + key * 0x9e3779b97f4a7c15u);
  }
  const int64_t row = positions.begin - to.positions.begin;  // of a home: the start of a panel
  device.write(to.key(head, row), k.data(), std::ssize(k));
  device.write(to.value(head, row), v.data(), std::ssize(v));
}

}  // namespace

void fill_kv(const std::vector<std::vector<PlacedKv>>& kv,
             const std::vector<std::unique_ptr<Device>>& devices, int64_t context, uint64_t seed) {
  for (size_t unit = 0; unit < kv.size(); ++unit)
    for (const PlacedKv& held : kv[unit])
      for (const KvHome& home : held.homes) {
        const Range positions = intersect(home.positions, {0, context});
        if (positions.empty()) continue;
        for (int64_t head = home.kv_heads.begin; head < home.kv_heads.end; ++head)
          fill_head(held.view, *devices[unit], home.layer, head, positions, seed);
      }
}

}  // namespace tandem
