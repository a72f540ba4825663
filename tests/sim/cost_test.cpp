#include "sim/cost.h"

#include <doctest/doctest.h>

#include <cmath>

#include "kernels/error.h"
#include "tests/sim/fixtures.h"

using namespace tandem;
using namespace tandem::fixtures;
using doctest::Approx;

namespace {

Task linear_task(std::initializer_list<MatrixWork> matrices, int64_t tokens = 1) {
  Task task;
  task.stage = Stage::kQkv;
  task.tokens = tokens;
  for (const MatrixWork& matrix : matrices) {
    task.matrices[static_cast<size_t>(task.num_matrices++)] = matrix;
    task.bytes += static_cast<double>(matrix.bytes());
  }
  return task;
}

Task attention_task(int64_t kv_heads, double positions, int64_t tokens) {
  Task task;
  task.stage = Stage::kAttention;
  task.kv_heads = kv_heads;
  task.positions = positions;
  task.tokens = tokens;
  task.bytes = 1000;
  return task;
}

/// The cost of a task on the only unit of a machine.
TaskCost cost_on(const UnitProfile& unit, const Task& task, DType kv_dtype = DType::kF16) {
  const ModelSpec model = small_model();
  const MachineProfile machine = machine_of({unit});
  Plan plan = single_unit_plan(model, {unit.unit.name}, 0);
  plan.kv_dtype = kv_dtype;
  return CostModel(model, machine, plan).cost(task);
}

CostModel three_unit_cost(const MachineProfile& machine) {
  const ModelSpec model = small_model();
  return {model, machine, single_unit_plan(model, {"a", "b", "c"}, 0)};
}

}  // namespace

TEST_CASE("a linear task prepares its input once per dtype and reads its matrices") {
  UnitProfile unit = reader("cpu0", 100);
  unit.linear.push_back({DType::kQ8_0, 1, proportional(1.0 / 34), {}});
  unit.prepare = {{DType::kF32, proportional(0.01)}, {DType::kQ8_0, proportional(0.02)}};
  // Two f32 matrices of 32 x 32 (4096 bytes each) at 100 bytes/s, one q8_0 of 10 rows of one
  // 34-byte block; 32 inputs.
  const Task task =
      linear_task({{DType::kF32, 32, 32}, {DType::kQ8_0, 10, 32}, {DType::kF32, 32, 32}});
  const TaskCost cost = cost_on(unit, task);
  CHECK(cost.seconds == Approx(32 * 0.01 + 81.92 + 32 * 0.02 + 10));
  CHECK(cost.memory_bytes == 8192 + 340);
  CHECK_FALSE(cost.extrapolated);
}

TEST_CASE("tokens between those measured are interpolated, beyond them extrapolated") {
  UnitProfile unit = reader("cpu0", 100);
  unit.linear = {{DType::kF32, 1, proportional(1), {}}, {DType::kF32, 16, proportional(4), {}}};
  const auto seconds = [&](int64_t tokens) {
    return cost_on(unit, linear_task({{DType::kF32, 1, 1}}, tokens)).seconds;
  };
  CHECK(seconds(1) == Approx(4));    // 4 bytes
  CHECK(seconds(6) == Approx(8));    // a third of the way from 4 to 16
  CHECK(seconds(32) == Approx(32));  // twice those of 16
  CHECK(cost_on(unit, linear_task({{DType::kF32, 1, 1}}, 32)).extrapolated);
}

TEST_CASE("a dtype that was not measured is priced from the nearest by bytes, and reported") {
  ModelSpec model = small_model();
  model.layers[1].gate = DType::kBF16;
  UnitProfile unit = reader("cpu0", 100);
  unit.linear.push_back({DType::kF16, 1, proportional(1), {}});
  const MachineProfile machine = machine_of({unit});
  const CostModel cost(model, machine, single_unit_plan(model, {"cpu0"}, 0));
  CHECK(cost.unmeasured() == std::vector<DType>{DType::kBF16});
  const TaskCost found = cost.cost(linear_task({{DType::kBF16, 3, 1}}));
  CHECK(found.seconds == Approx(6));
  CHECK(found.extrapolated);
}

TEST_CASE("without a curve a task reads its bytes at the speed of memory") {
  UnitProfile unit = reader("cpu0", 100);
  unit.linear.clear();
  unit.attention.clear();
  CHECK(cost_on(unit, linear_task({{DType::kF32, 50, 1}})).seconds == Approx(2));
  CHECK(cost_on(unit, attention_task(1, 1, 1)).seconds == Approx(10));
  CHECK(cost_on(unit, attention_task(1, 1, 1)).extrapolated);
}

TEST_CASE("a task demands no more of the memory than the memory delivers to its unit") {
  UnitProfile unit = reader("cpu0", 100);
  unit.attention = {{DType::kF16, 8, 2, 1, proportional(1)}};
  const TaskCost cost = cost_on(unit, attention_task(1, 5, 1));
  CHECK(cost.seconds ==
        Approx(5));  // 1000 bytes at 100 bytes/s would be 10 s: half came from cache
  CHECK(cost.memory_bytes == Approx(500));
}

TEST_CASE("attention is read off the curves of the nearest shape, by rows and positions") {
  UnitProfile unit = reader("cpu0", 100);
  // The model has head_dim 8, group 2. Rows are group x tokens.
  unit.attention = {{DType::kF16, 64, 2, 1, proportional(100)},
                    {DType::kF16, 4, 4, 1, proportional(1)},
                    {DType::kF16, 4, 4, 16, proportional(16)}};
  // One token has 2 rows, below the 4 measured: it costs as much; 8 elements twice those of 4.
  CHECK(cost_on(unit, attention_task(3, 5, 1)).seconds == Approx(3 * 5 * 2));
  // 8 tokens are 16 rows: halfway from 4 to 64, so 4 times as long.
  CHECK(cost_on(unit, attention_task(3, 5, 8)).seconds == Approx(3 * 5 * 2 * 4));
  // f32 was not measured: twice the bytes of f16.
  CHECK(cost_on(unit, attention_task(3, 5, 8), DType::kF32).seconds == Approx(3 * 5 * 2 * 4 * 2));
  CHECK(cost_on(unit, attention_task(3, 5, 8), DType::kBF16).seconds == Approx(3 * 5 * 2 * 4));
  CHECK(cost_on(unit, attention_task(3, 5, 8)).memory_bytes == 1000);
}

TEST_CASE("attention over a KV format that was not measured is priced by bytes, and reported") {
  ModelSpec model = small_model();
  model.head_dim = model.rope_dim = 32;
  UnitProfile unit = reader("cpu0", 100);
  unit.attention = {{DType::kF16, 32, 2, 1, proportional(1)}};
  const MachineProfile machine = machine_of({unit});
  Plan plan = single_unit_plan(model, {"cpu0"}, 0);
  CHECK_FALSE(CostModel(model, machine, plan).unmeasured_kv());
  plan.kv_dtype = DType::kQ8_0;
  const CostModel cost(model, machine, plan);
  CHECK(cost.unmeasured_kv() == DType::kQ8_0);
  // 34 bytes of a block instead of 64.
  CHECK(cost.cost(attention_task(3, 5, 1)).seconds == Approx(3 * 5 * 34.0 / 64));
}

TEST_CASE("stages between buffers follow their curves and demand no memory") {
  UnitProfile unit = reader("cpu0", 100);
  unit.merge = proportional(1);
  unit.commit = {{{1, {2, 0}}, {1e12, {2, 0}}}};
  unit.argmax = proportional(3);
  unit.embed = proportional(5);
  Task task;
  task.bytes = 40;
  task.stage = Stage::kMerge;
  CHECK(cost_on(unit, task).seconds == Approx(10));  // floats
  CHECK(cost_on(unit, task).memory_bytes == 0);
  task.stage = Stage::kCommit;
  task.range = {0, 4};
  CHECK(cost_on(unit, task).seconds == Approx(2));  // all layers in one call
  task.stage = Stage::kSample;
  task.range = {0, 7};
  task.tokens = 2;
  CHECK(cost_on(unit, task).seconds == Approx(3 * 7 * 2));  // values of every row
  task.stage = Stage::kEmbed;
  CHECK(cost_on(unit, task).seconds == Approx(5 * 2 * 64));  // values of both rows
}

TEST_CASE("short and long rows of one token from memory cost what was measured of them") {
  UnitProfile unit = reader("cpu0", 100);
  unit.row_slowdowns = {{DType::kF32, {{{512, {1.3, 0.3}}, {6144, {1.5, 0.1}}}}}};
  const auto seconds = [&](int64_t k, int64_t tokens) {
    Task task = linear_task({{DType::kF32, 25, k}});
    task.tokens = tokens;
    return cost_on(unit, task).seconds / static_cast<double>(k);
  };
  CHECK(seconds(256, 1) == Approx(1.3));
  CHECK(seconds(512, 1) == Approx(1.3));
  CHECK(seconds(1024, 1) == Approx(1.1));  // half as many row ends as at 512, twice those at 2048
  CHECK(seconds(2048, 1) == Approx(1));
  CHECK(seconds(3072, 1) == Approx(1.25));
  CHECK(seconds(4 * 6144, 1) == Approx(1.5));
  CHECK(seconds(6144, 2) == Approx(1));
  CHECK(cost_on(unit, linear_task({{DType::kF32, 25, 6144}})).spread == Approx(0.1));
  CHECK(cost_on(unit, linear_task({{DType::kF32, 25, 2048}})).spread == Approx(0));
}

TEST_CASE("a small stage and attention start cold where weights are streamed between them") {
  UnitProfile unit = reader("cpu0", 100);
  unit.merge = proportional(1);
  unit.attention = {{DType::kF16, 8, 2, 1, proportional(1)}};
  unit.cold_start_s = {3, 0.1};
  Task merge;
  merge.bytes = 40;
  merge.stage = Stage::kMerge;
  CHECK(cost_on(unit, merge).seconds == Approx(10 + 3));
  CHECK(cost_on(unit, attention_task(3, 5, 1)).seconds == Approx(15 + 3));
  CHECK(cost_on(unit, linear_task({{DType::kF32, 25, 1}})).seconds == Approx(1));  // no small one
  // A model that stays in the cache leaves them there, too.
  const ModelSpec model = small_model();
  const MachineProfile machine = machine_of({unit});
  const CostModel cached(model, machine, single_unit_plan(model, {"cpu0"}, 0), 1);
  CHECK(cached.cost(merge).seconds == Approx(10));
  CHECK(cached.cost(attention_task(3, 5, 1)).seconds == Approx(15));
}

TEST_CASE("the spread of a task weighs its figures by their time") {
  UnitProfile unit = reader("cpu0", 4, 0.1);
  unit.prepare = {{DType::kF32, proportional(3, 0.5)}};
  // 1 s of weights with spread 0.1, 3 s of preparation with 0.5.
  CHECK(cost_on(unit, linear_task({{DType::kF32, 1, 1}})).spread == Approx((0.1 + 1.5) / 4));
}

TEST_CASE("weights, keys and values that fit the last-level cache stay there") {
  // Weights 335872 bytes; at context 1024 each of 2 layers reads 2 x 4 heads x 1025 positions x 8 x
  // 2 bytes: 262400 in all.
  const ModelSpec model = small_model();
  MachineProfile machine = machine_of({reader("cpu0", 100)});
  const Plan plan = single_unit_plan(model, {"cpu0"}, 0);
  const auto resident_in = [&](int64_t last_level_bytes) {
    machine.machine.caches = {{2, 1, 1}, {3, last_level_bytes, 1}};
    return CostModel(model, machine, plan).cache_resident(0);
  };
  CHECK(resident_in(860000));  // 0.7 x 860000 = 602000 > 598272
  CHECK_FALSE(resident_in(850000));
  machine.machine.caches = {{3, 1 << 20, 1}};
  const CostModel cost(model, machine, plan);
  CHECK(cost.cost(linear_task({{DType::kF32, 25, 1}})).seconds == Approx(0.1));
  CHECK(cost.cost(linear_task({{DType::kF32, 25, 1}})).memory_bytes == 0);
}

TEST_CASE("a link that was not measured costs what its opposite does, or the slowest") {
  MachineProfile machine = machine_of({reader("a", 1), reader("b", 1), reader("c", 1)});
  machine.links = {{"a", "b", {2, 0}}, {"b", "a", {3, 0}}, {"b", "c", {4, 0}}};
  const CostModel cost = three_unit_cost(machine);
  CHECK(cost.handoff_s(0, 0) == 0);
  CHECK(cost.handoff_s(0, 1) == 2);
  CHECK(cost.handoff_s(1, 0) == 3);
  CHECK(cost.handoff_s(2, 1) == 4);
  CHECK(cost.handoff_s(0, 2) == 4);
}

TEST_CASE("capacity is measured for the set, or bounded by a larger set and by the units alone") {
  MachineProfile machine = machine_of({reader("a", 10), reader("b", 8), reader("c", 3)});
  machine.contention = {{{"a", "b"}, {12, 0}, {}, {1.5, 0}},
                        {{"a", "b", "c"}, {14, 0}, {}, {1.2, 0}}};
  const CostModel cost = three_unit_cost(machine);
  CHECK(cost.capacity_per_s(0b001) == 10);  // one unit draws what it draws alone
  CHECK(cost.capacity_per_s(0b011) == 12);
  CHECK(cost.capacity_per_s(0b111) == 14);
  CHECK(cost.capacity_per_s(0b101) == 13);  // 10 + 3 is less than the 14 of all
  machine.contention = {{{"a", "b"}, {7, 0}, {}, {1, 0}}};
  const CostModel slow = three_unit_cost(machine);
  CHECK(slow.capacity_per_s(0b011) == 10);  // two units are not slower than one
  CHECK(slow.capacity_per_s(0b111) == 21);  // not measured: the sum
}

TEST_CASE("a dtype whose streams leave gaps draws more of a shared memory than its bytes") {
  MachineProfile machine = machine_of({reader("a", 1e6), reader("b", 8), reader("c", 3)});
  machine.contention = {{{"a", "b"}, {12, 0}, {{DType::kF32, {0.5, 0}}}, {1, 0}},
                        {{"a", "b", "c"}, {14, 0}, {{DType::kF32, {0.8, 0}}}, {1, 0}}};
  machine.units[0].linear = {{DType::kF32, 1, proportional(1), {}}};
  // 32 x 32 floats; of the sets the largest says what they draw.
  CHECK(three_unit_cost(machine).cost(linear_task({{DType::kF32, 32, 32}})).memory_bytes ==
        Approx(4096 / 0.8));
}

TEST_CASE("clocks are shared as measured for the set, or for the worst set within it") {
  MachineProfile machine = machine_of({reader("a", 10), reader("b", 8), reader("c", 3)});
  machine.contention = {{{"a", "b"}, {12, 0}, {}, {1.5, 0}}, {{"b", "c"}, {12, 0}, {}, {1.2, 0}}};
  const CostModel cost = three_unit_cost(machine);
  CHECK(cost.compute_slowdown(0b011) == 1.5);
  CHECK(cost.compute_slowdown(0b111) == 1.5);
  CHECK(cost.compute_slowdown(0b101) == 1);
  CHECK(cost.compute_slowdown(0b100) == 1);
}

TEST_CASE("a unit that the machine lacks is named, with those it has") {
  const ModelSpec model = small_model();
  const MachineProfile machine = machine_of({reader("cpu0", 1), reader("cpu1", 1)});
  CHECK_THROWS_WITH_AS(CostModel(model, machine, single_unit_plan(model, {"gpu0"}, 0)),
                       "plan: unit gpu0 is not one of machine paper: cpu0, cpu1", Error);
}

TEST_CASE("a copy takes its bytes at the link's rate and draws them from the host's memory") {
  const ModelSpec model = small_model();
  MachineProfile machine = machine_of({reader("cpu0", 16), cuda_reader("gpu0", 64, 16)});
  Plan plan = two_unit_plan(model);
  plan.units = {"cpu0", "gpu0"};
  const CostModel cost(model, machine, plan);
  Task copy = linear_task({{DType::kF32, 8, 1}});
  copy.stage = Stage::kCopy;
  copy.unit = 1;
  CHECK(cost.cost(copy).seconds == Approx(2));
  CHECK(cost.cost(copy).memory_bytes == 32);
  const int link = lane_of(copy, 2);
  CHECK(cost.memory_of(link) == cost.memory_of(0));
  CHECK(cost.memory_of(link) != cost.memory_of(1));
  // Not measured together: a CPU unit and a link reach no more than CPU units do.
  CHECK(cost.capacity_per_s(0b1001) == 16);
  machine.contention = {{{"cpu0", "gpu0.streamed"}, {24, 0}, {}, {1, 0}}};
  CHECK(CostModel(model, machine, plan).capacity_per_s(0b1001) == 24);
}

TEST_CASE("a result that is copied costs what that was measured to, or a launch and its bytes") {
  const ModelSpec model = small_model();
  MachineProfile machine = machine_of({reader("cpu0", 16), cuda_reader("gpu0", 64, 16)});
  machine.units[1].barrier_s = {0.125, 0};
  Plan plan = single_unit_plan(model, {"cpu0", "gpu0"}, 0);
  Transfer transfer;
  transfer.bytes = 8;
  const auto receive_s = [&] {
    return CostModel(model, machine, plan).receive_s(1, {transfer, transfer});
  };
  CHECK(receive_s() == Approx(2 * (0.125 + 8.0 / 16)));  // as weights are copied
  machine.links = {{"cpu0", "gpu0", {0, 0}, {{{1, {0.25, 0}}, {15, {2, 0}}}}}};
  CHECK(receive_s() == Approx(2 * 1.125));  // between the sizes that were measured
  CHECK(CostModel(model, machine, plan).memories().own == 2);
}

TEST_CASE("a result that is read from another GPU costs what that copy was measured to") {
  const ModelSpec model = small_model();
  MachineProfile machine =
      machine_of({reader("cpu0", 16), cuda_reader("gpu0", 64, 16), cuda_reader("gpu1", 64, 16)});
  machine.links = {{"cpu0", "gpu0", {0, 0}, proportional(1.0 / 32)},
                   {"gpu1", "gpu0", {0, 0}, proportional(1.0 / 128), true}};
  // Units of a plan may have another order.
  const Plan plan = single_unit_plan(model, {"gpu1", "cpu0", "gpu0"}, 0);
  const CostModel cost(model, machine, plan);
  Transfer transfer;
  transfer.bytes = 64;
  CHECK(cost.receive_s(2, {transfer}) == Approx(2));
  transfer.from = 0;
  CHECK(cost.receive_s(2, {transfer}) == Approx(0.5));
  CHECK(cost.memories().own == 0b101);
  CHECK(cost.memories().reads_directly(2, 0));
  CHECK_FALSE(cost.memories().reads_directly(0, 2));  // not measured
}

TEST_CASE("publishing costs what it was measured to, of the bytes that others read") {
  const ModelSpec model = small_model();
  MachineProfile machine = machine_of({reader("cpu0", 16), cuda_reader("gpu0", 64, 16)});
  const Plan plan = single_unit_plan(model, {"cpu0", "gpu0"}, 0);
  CHECK(CostModel(model, machine, plan).publish_s(1, 64) == 0);  // not measured
  machine.units[1].publish = proportional(1.0 / 32);
  const CostModel cost(model, machine, plan);
  CHECK(cost.publish_s(1, 64) == Approx(2));
  CHECK(cost.publish_s(1, 0) == 0);
  CHECK(cost.publish_s(0, 64) == 0);
}

TEST_CASE("a GPU that shares the memory of CPU units copies no results") {
  const ModelSpec model = small_model();
  MachineProfile machine = machine_of({reader("cpu0", 16), cuda_reader("gpu0", 64, 0)});
  machine.units[1].unit.memory = machine.units[0].unit.memory;
  const Plan plan = single_unit_plan(model, {"gpu0", "cpu0"}, 0);
  CHECK(CostModel(model, machine, plan).memories().own == 0);
}

TEST_CASE("a plan that streams to a unit without a measured link is refused") {
  const ModelSpec model = small_model();
  const MachineProfile machine = machine_of({cuda_reader("gpu0", 64, 0)});
  Plan plan = single_unit_plan(model, {"gpu0"}, 0);
  plan.phases[0].lm_head[0].home = Home::kStreamed;
  CHECK_THROWS_WITH_AS(CostModel(model, machine, plan),
                       "plan: gpu0 streams weights, but machine paper has no stream_per_s of it: "
                       "profile again, or keep them resident",
                       Error);
}
