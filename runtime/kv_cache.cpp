// Where keys and values live: memory per unit and layer, and seeded contents for runs at depth.
#include <algorithm>
#include <cstring>

#include "kernels/half.h"
#include "runtime/placement.h"

namespace tandem {

PlacedKv allocate_kv(Device& device, DType dtype, Range kv_heads, Range positions,
                     int64_t head_dim) {
  PlacedKv kv;
  kv.view = {.dtype = dtype, .kv_heads = kv_heads, .positions = positions, .head_dim = head_dim};
  const int64_t k_bytes = round_up(kv_heads.size() * kv.view.k_head_bytes(), 64);
  kv.memory = device.allocate(k_bytes + kv_heads.size() * kv.view.v_head_bytes());
  kv.view.k = kv.memory.get();
  kv.view.v = kv.memory.get() + k_bytes;
  return kv;
}

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
      std::vector<KvHome> homes = std::move(held.homes);
      held = allocate_kv(*devices[unit], plan.kv_dtype, held.view.kv_heads, held.view.positions,
                         model.spec.head_dim);
      held.homes = std::move(homes);
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

void fill_row(const KvView& view, int64_t kv_head, int64_t position, uint64_t seed) {
  const int64_t row = position - view.positions.begin;
  const int64_t element = info(view.dtype).block_bytes;
  for (int64_t d = 0; d < view.head_dim; ++d) {
    write_element(view.dtype, next_value(seed), view.key(kv_head, row) + 16 * d * element);
    write_element(view.dtype, next_value(seed), view.value(kv_head, row) + d * element);
  }
}

}  // namespace

void fill_kv(std::vector<std::vector<PlacedKv>>& kv, int64_t context, uint64_t seed) {
  for (const std::vector<PlacedKv>& layers : kv)
    for (const PlacedKv& held : layers)
      for (const KvHome& home : held.homes) {
        const Range positions = intersect(home.positions, {0, context});
        for (int64_t head = home.kv_heads.begin; head < home.kv_heads.end; ++head)
          for (int64_t p = positions.begin; p < positions.end; ++p) {
            const auto key = static_cast<uint64_t>((home.layer << 44) + (head << 32) + p);
            fill_row(held.view, head, p, seed * 0x2545f4914f6cdd1du + key * 0x9e3779b97f4a7c15u);
          }
      }
}

}  // namespace tandem
