// Small models, plans and machines whose figures can be worked out by hand.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "profiles/machine_profile.h"
#include "sim/plan.h"

namespace tandem::fixtures {

/// hidden 64, intermediate 128, 8 heads on 4 kv heads of 8 elements, vocabulary 160, 2 layers, f32.
/// qkv has (2 + 2) x 8 = 32 columns per kv head, 128 in all.
inline ModelSpec small_model() {
  ModelSpec model;
  model.name = "small";
  model.hidden_size = 64;
  model.intermediate_size = 128;
  model.num_layers = 2;
  model.num_heads = 8;
  model.num_kv_heads = 4;
  model.head_dim = 8;
  model.rope_dim = 8;
  model.vocab_size = 160;
  model.max_context = 4096;
  const DType f = DType::kF32;
  model.layers.assign(2, {f, f, f, f, f, f, f});
  return model;
}

/// Columns [0, cut) on unit 0, the others on unit 1.
inline LinearSplit cut(int64_t columns, int64_t at) { return {{0, {0, at}}, {1, {at, columns}}}; }

/// Two units share everything evenly: kv heads 0-1 and all of their positions on cpu0, 2-3 on cpu1.
inline Plan two_unit_plan(const ModelSpec& model) {
  Plan plan = single_unit_plan(model, {"cpu0", "cpu1"}, 0);
  plan.phases[0].lm_head = cut(160, 80);
  LayerPlan& layer = plan.phases[0].layers[0];
  layer.qkv = cut(128, 64);
  layer.out = cut(64, 32);
  layer.gate_up = cut(128, 64);
  layer.down = cut(64, 32);
  layer.attention = {{0, {0, 2}, {0, kOpenEnd}, true}, {1, {2, 4}, {0, kOpenEnd}, true}};
  return plan;
}

/// A straight line through the origin: y = x * seconds_per_x between x = 1 and 1e12.
inline Curve proportional(double seconds_per_x, double spread = 0) {
  return {{{1, {seconds_per_x, spread}}, {1e12, {1e12 * seconds_per_x, spread}}}};
}

/// Reads weights from memory at `bytes_per_s`, ten times that from cache, whatever the tokens up to
/// 16; all else is free.
inline UnitProfile reader(const std::string& name, double bytes_per_s, double spread = 0) {
  const Curve dram = proportional(1 / bytes_per_s, spread);
  const Curve cache = proportional(0.1 / bytes_per_s, spread);
  const Curve free = proportional(1e-30);
  UnitProfile profile;
  profile.unit = {
      .name = name, .kind = UnitKind::kCpu, .cores = {0}, .isa = "generic", .memory = "dram0"};
  profile.dram_read_per_s = {bytes_per_s, spread};
  profile.cache_read_per_s = {10 * bytes_per_s, spread};
  profile.linear = {{DType::kF32, 1, dram, cache}, {DType::kF32, 16, dram, cache}};
  profile.prepare = {{DType::kF32, free}};
  profile.attention = {{DType::kF16, 8, 2, 1, free}, {DType::kF16, 8, 2, 16, free}};
  profile.embed = profile.merge = profile.commit = profile.argmax = free;
  return profile;
}

/// The same with a memory of its own, and streamed weights at `stream_per_s` (0 = none).
inline UnitProfile cuda_reader(const std::string& name, double bytes_per_s, double stream_per_s) {
  UnitProfile profile = reader(name, bytes_per_s);
  profile.unit.kind = UnitKind::kCuda;
  profile.unit.memory = "memory of " + name;
  profile.stream_per_s = {stream_per_s, 0};
  return profile;
}

inline MachineProfile machine_of(std::initializer_list<UnitProfile> units) {
  MachineProfile machine;
  machine.machine.name = "paper";
  machine.units = units;
  return machine;
}

}  // namespace tandem::fixtures
