// Where keys and values live: memory per unit and layer, and seeded contents for runs at depth.
#include "kernels/kernel_set.h"
#include "runtime/placement.h"

namespace tandem {

namespace {

int64_t k_bytes(const KvView& view) {
  return round_up(view.kv_heads.size() * view.k_head_bytes(), 64);
}

PlacedKv allocate_kv(Device& device, KvView view) {
  PlacedKv kv{view, device.allocate(kv_bytes(view))};
  kv.view.k = kv.memory.get();
  kv.view.v = kv.memory.get() + k_bytes(view);
  return kv;
}

}  // namespace

int64_t kv_bytes(const KvView& view) {
  return k_bytes(view) + view.kv_heads.size() * view.v_head_bytes();
}

std::vector<std::vector<std::vector<KvView>>> kv_views(const ModelSpec& spec, const Plan& plan,
                                                       int64_t max_context) {
  const Range cached{0, round_up(max_context, kAttentionChunk)};
  std::vector<std::vector<std::vector<KvView>>> views(
      plan.units.size(), std::vector<std::vector<KvView>>(static_cast<size_t>(spec.num_layers)));
  for (const KvHome& home : kv_homes(plan, spec)) {
    const Range positions = intersect(home.positions, cached);
    if (positions.empty()) continue;
    views[static_cast<size_t>(home.unit)][static_cast<size_t>(home.layer)].push_back(
        {.dtype = plan.kv_dtype,
         .kv_heads = home.kv_heads,
         .positions = positions,
         .head_dim = spec.head_dim});
  }
  return views;
}

// A view for each home, not one for the hull of a unit's: commits would write, and so make
// resident, cells that no part attends.
std::vector<std::vector<LayerKv>> place_kv(const Model& model, const Plan& plan,
                                           const std::vector<std::unique_ptr<Device>>& devices,
                                           int64_t max_context) {
  const auto views = kv_views(model.spec, plan, max_context);
  std::vector<std::vector<LayerKv>> kv(views.size());
  for (size_t unit = 0; unit < views.size(); ++unit)
    for (const std::vector<KvView>& homes : views[unit]) {
      LayerKv& layer = kv[unit].emplace_back();
      for (const KvView& home : homes) layer.push_back(allocate_kv(*devices[unit], home));
    }
  return kv;
}

KvView home_of(const LayerKv& kv, int64_t kv_head, int64_t position) {
  for (const PlacedKv& home : kv)
    if (home.view.kv_heads.contains(kv_head) && home.view.positions.contains(position))
      return home.view;
  return {};
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

/// Row `row` of a view of one head.
void fill_row(const KernelSet& kernels, const KvView& view, int64_t row, uint64_t seed) {
  float key[kMaxHeadDim], value[kMaxHeadDim];
  for (int64_t d = 0; d < view.head_dim; ++d) {
    key[d] = next_value(seed);
    value[d] = next_value(seed);
  }
  store_kv_row(kernels, view.dtype, key, view.head_dim, view.keys(), view.key(0, row));
  store_kv_row(kernels, view.dtype, value, view.head_dim, view.values(), view.value(0, row));
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
  const KernelSet& kernels = kernel_set("");  // all of them round alike
  for (int64_t p = positions.begin; p < positions.end; ++p) {
    const auto key = static_cast<uint64_t>((layer << 44) + (head << 32) + p);
    fill_row(kernels, made, p - positions.begin,
             seed * 0x2545f4914f6cdd1du + key * 0x9e3779b97f4a7c15u);
  }
  const int64_t row = positions.begin - to.positions.begin;  // of a home: the start of a panel
  device.write(to.key_panel(head, row), k.data(), std::ssize(k));
  device.write(to.value_panel(head, row), v.data(), std::ssize(v));
}

}  // namespace

void fill_kv(const std::vector<std::vector<LayerKv>>& kv,
             const std::vector<std::unique_ptr<Device>>& devices, int64_t context, uint64_t seed) {
  for (size_t unit = 0; unit < kv.size(); ++unit)
    for (size_t layer = 0; layer < kv[unit].size(); ++layer)
      for (const PlacedKv& home : kv[unit][layer]) {
        const Range heads = home.view.kv_heads;
        const Range positions = intersect(home.view.positions, {0, context});
        if (positions.empty()) continue;
        for (int64_t head = heads.begin; head < heads.end; ++head)
          fill_head(home.view, *devices[unit], static_cast<int64_t>(layer), head, positions, seed);
      }
}

}  // namespace tandem
