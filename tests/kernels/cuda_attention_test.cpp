// Attention and merges of a CUDA unit, on the emulated device.
#include <doctest/doctest.h>

#include <array>
#include <random>

#include "cuda_attention_problem.h"

using namespace tandem;
using reference::Matrix;
using Problem = CudaAttentionProblem;

namespace {

/// Tokens whose result in the step differs from the one they have when decoded one after another.
int64_t unlike_sequential(const Problem& problem, DType dtype = DType::kF16) {
  const std::vector<float> together = problem.attend({.dtype = dtype});
  int64_t wrong = 0;
  for (int64_t t = 0; t < problem.s.tokens; ++t) {
    const std::vector<float> alone = Problem(problem.alone(t)).attend({.dtype = dtype});
    wrong += !std::equal(alone.begin(), alone.end(), together.begin() + t * problem.q_stride());
  }
  return wrong;
}

/// Outputs are means of values of about 1: rounding of up to 1024 terms and of their exponentials.
constexpr double kRounding = 2e-5;

/// A tree in which every token has two children.
std::vector<int32_t> binary_tree(int32_t tokens) {
  std::vector<int32_t> parents{-1};
  for (int32_t t = 1; t < tokens; ++t) parents.push_back((t - 1) / 2);
  return parents;
}

}  // namespace

TEST_CASE("a CUDA unit's attention is the reference's, near and far into the context") {
  // tokens, past, head_dim, kv heads, group: both kernels (up to 16 tokens and more), every number
  // of rows a block takes, sizes that fill no vector, no warp and no tile.
  const AttentionShape shapes[] = {{1, 0},
                                   {1, 1, 8, 1, 1},
                                   {1, 255},
                                   {1, 256},
                                   {1, 700},
                                   {1, 300, 128, 2, 4},
                                   {1, 600, 128, 3, 1},
                                   {2, 60, 20},
                                   {2, 270, 64, 1, 1},
                                   {5, 250},
                                   {3, 1024},
                                   {2, 40, 80, 1, 2},
                                   {16, 250, 128, 1, 4},
                                   {9, 31, 64, 1, 8},
                                   {2, 20, 512, 1, 2},
                                   {17, 300},
                                   {40, 0},
                                   {40, 265, 128, 1, 4},
                                   {18, 40, 80},
                                   {17, 70, 20, 2, 8},
                                   {20, 9, 512, 1, 1},
                                   {70, 20, 16, 1, 1}};
  // Formats take turns, in every run others: the next test says that they give the same bits.
  size_t turn = std::random_device{}() % kKvFormats.size();
  for (const AttentionShape& shape : shapes) {
    DType dtype = kKvFormats[turn++ % kKvFormats.size()];
    if (!has_format(shape.head_dim, dtype)) dtype = DType::kF16;
    CAPTURE(name(dtype));
    CAPTURE(shape.tokens);
    CAPTURE(shape.past);
    CAPTURE(shape.head_dim);
    CAPTURE(shape.group);
    const Problem problem(shape);
    check_near(problem.attend({.dtype = dtype}), problem.kept(dtype).exact(), kRounding);
  }
}

TEST_CASE("on a CUDA unit every KV format has the bits of the same values in f32") {
  for (const AttentionShape& shape : {AttentionShape{2, 300, 64, 1, 2},
                                      {16, 40, 128, 1, 1},
                                      {1, 270, 96, 2, 3},
                                      {20, 70, 64, 1, 2},
                                      {18, 30, 128, 1, 1}})
    for (const DType dtype : kKvFormats) {
      CAPTURE(name(dtype));
      CAPTURE(shape.tokens);
      CAPTURE(shape.head_dim);
      const Problem problem(shape);
      CHECK(differing(problem.attend({.dtype = dtype}),
                      Problem(problem.kept(dtype)).attend({.dtype = DType::kF32})) == 0);
    }
}

TEST_CASE("a CUDA unit merges the states of many chunks") {
  // 34 chunks are more than are read at once, 131 more than there are threads.
  for (const AttentionShape& shape :
       {AttentionShape{2, 8500, 16, 1, 1}, AttentionShape{1, 33400, 8, 1, 1}}) {
    const Problem problem(shape);
    CAPTURE(shape.past);
    check_near(problem.attend({}), problem.exact(), kRounding);
  }
}

TEST_CASE("on a CUDA unit a tree's tokens see their ancestors and no siblings") {
  for (const int64_t past : {0, 5, 250, 300}) {
    CAPTURE(past);
    const Problem few({8, past}, {-1, -1, 0, 0, 2, 3, 1, 6});
    check_near(few.attend({}), few.exact(), kRounding);
    const Problem many({70, past, 64, 1, 2}, binary_tree(70));
    check_near(many.attend({}), many.exact(), kRounding);
  }
  // A parent may come after its child.
  const Problem backwards({17, 30, 32, 1, 1},
                          {1, 2, 3, -1, 3, 4, 16, 5, 5, 0, 9, 9, 15, 2, 2, 16, -1});
  check_near(backwards.attend({}), backwards.exact(), kRounding);
}

TEST_CASE("on a CUDA unit up to 16 tokens are the same bits as decoded one after another") {
  // Steps that cross a panel (16 positions), a chunk (256), and fill a step's last row.
  for (const int64_t past : {0, 13, 250, 255}) {
    CAPTURE(past);
    CHECK(unlike_sequential(Problem({16, past})) == 0);
    CHECK(unlike_sequential(Problem({12, past, 128, 1, 4})) == 0);
    CHECK(unlike_sequential(Problem({16, past}), DType::kQ8_0) == 0);
    const std::vector<int32_t> tree{-1, 0, 0, 1, 2, 2, 3, 4, 6, 6, 8, 10};
    CHECK(unlike_sequential(Problem({12, past}, tree)) == 0);
    CHECK(unlike_sequential(Problem({12, past}, tree), DType::kQ8_0) == 0);
    CHECK(unlike_sequential(Problem({12, past}, tree), DType::kBF16) == 0);
    CHECK(unlike_sequential(Problem({16, past, 20, 2, 1}, binary_tree(16))) == 0);
  }
}

TEST_CASE("on a CUDA unit a head is the same bits computed alone, the others are left alone") {
  for (const int64_t tokens : {1, 2, 20}) {
    for (const int64_t head_dim : {20, 64}) {
      CAPTURE(tokens);
      CAPTURE(head_dim);
      const Problem problem({tokens, 300, head_dim});
      const std::vector<float> whole = problem.attend({});
      const std::vector<float> out = problem.attend({.kv_heads = Range{1, 2}});
      int64_t wrong = 0;
      for (size_t i = 0; i < out.size(); ++i) {
        const bool of_head_1 = static_cast<int64_t>(i) % problem.q_stride() >= 3 * head_dim;
        wrong += out[i] != (of_head_1 ? whole[i] : 7);
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("on a CUDA unit a head cut by positions merges to the reference's") {
  for (const AttentionShape& shape :
       {AttentionShape{1, 700, 160}, {7, 700, 64}, {33, 700, 20}, {33, 700, 128}}) {
    const int64_t tokens = shape.tokens, head_dim = shape.head_dim;
    CAPTURE(tokens);
    CAPTURE(head_dim);
    const Problem problem(shape);
    // Homes [0, 256), [256, 1024), one that the context has not reached, and the new tokens
    // alone.
    const std::vector<AttentionShare> shares{
        {.context = Range{0, 256}, .home = {0, 256}, .include_new = false, .state = true},
        {.context = Range{256, kOpenEnd}, .home = {256, 1024}, .include_new = false, .state = true},
        {.context = Range{768, 1024}, .home = {768, 1024}, .include_new = false, .state = true},
        {.context = Range{}, .state = true}};
    std::vector<DeviceArray<float>> states;
    std::vector<const float*> ascending;
    for (AttentionShare share : shares) {
      share.max_context = 1024;
      states.emplace_back(problem.attend(share));
    }
    for (const DeviceArray<float>& state : states) ascending.push_back(state.get());
    const auto q_stride = problem.q_stride();
    const std::vector<float> sevens(static_cast<size_t>(tokens * q_stride), 7);
    const DeviceArray<float> own(sevens), shared(sevens);
    cuda::merge({.args = {.tokens = tokens,
                          .kv_heads = {0, 2},
                          .group = 3,
                          .head_dim = head_dim,
                          .states = ascending,
                          .out = own.get(),
                          .q_stride = q_stride},
                 .shared = shared.get()},
                nullptr);
    check_near(own.read(), problem.exact(), kRounding);
    CHECK(differing(own.read(), shared.read()) == 0);
  }
}

TEST_CASE("a CUDA unit's state of no positions is empty") {
  for (const int64_t tokens : {2, 20}) {
    const Problem problem({tokens, 300});
    const std::vector<float> state = problem.attend(
        {.context = Range{512, 1024}, .home = {512, 1024}, .include_new = false, .state = true});
    int64_t wrong = 0;
    for (size_t i = 0; i < state.size(); ++i)
      wrong += state[i] != (i % 66 == 64 ? -std::numeric_limits<float>::infinity() : 0);
    CHECK(wrong == 0);
  }
}

TEST_CASE("on a CUDA unit the largest context that is allowed for changes no bit") {
  for (const int64_t tokens : {1, 6, 20}) {
    for (const int64_t past : {0, 100, 512}) {
      CAPTURE(tokens);
      CAPTURE(past);
      const Problem problem({tokens, past});
      const std::vector<float> expected = problem.attend({});
      CHECK(differing(problem.attend({.context = Range{0, kOpenEnd}, .max_context = 1500}),
                      expected) == 0);
    }
  }
}

TEST_CASE("a captured attention is replayed at other depths") {
  for (const int64_t tokens : {3, 20}) {
    const std::array<Problem, 3> problems{Problem({tokens, 40}), Problem({tokens, 600}),
                                          Problem({tokens, 255})};
    const int64_t q_stride = problems[0].q_stride();
    DeviceArray<int64_t> past(std::vector<int64_t>{0});
    DeviceKv cache(DType::kF16, {0, 2}, {0, 1024}, 64), step(DType::kF16, {0, 2}, {0, 48}, 64);
    DeviceArray<float> q(problems[0].q), out(std::vector<float>(problems[0].q.size(), 7));
    cuda::AttentionLaunch launch{.args = {.tokens = tokens,
                                          .past = 0,
                                          .kv_heads = {0, 2},
                                          .group = 3,
                                          .head_dim = 64,
                                          .scale = problems[0].scale(),
                                          .q = q.get(),
                                          .q_stride = q_stride,
                                          .cache = cache.view(),
                                          .context = {0, kOpenEnd},
                                          .include_new = true,
                                          .step = step.view(),
                                          .out = out.get()},
                                 .past = {.at = past.get()},
                                 .max_context = 1024};
    const DeviceArray<float> scratch = Problem::scratch_for(launch);
    launch.chunk_states = scratch.get();

    cudaStream_t stream = nullptr;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t recorded = nullptr;
    REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
    REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    cuda::attention(launch, stream);
    REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
    REQUIRE(cudaGraphInstantiate(&recorded, graph, 0) == cudaSuccess);
    for (const Problem& problem : problems) {
      CAPTURE(tokens);
      CAPTURE(problem.s.past);
      overwrite(past, {problem.s.past});
      for (int64_t p = 0; p < problem.s.past; ++p)
        cache.put(p, problem.cached_keys, problem.cached_values, p);
      for (int64_t t = 0; t < tokens; ++t)
        step.put(problem.s.past % 16 + t, problem.new_keys, problem.new_values, t);
      cache.upload();
      step.upload();
      REQUIRE(cudaGraphLaunch(recorded, stream) == cudaSuccess);
      REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
      CHECK(differing(out.read(), problem.attend({})) == 0);
    }
    cudaGraphExecDestroy(recorded);
    cudaGraphDestroy(graph);
    cudaStreamDestroy(stream);
  }
}
