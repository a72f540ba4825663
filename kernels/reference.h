// What every op means, in double precision on Eigen: the truth that kernels are tested against.
// Never used to compute for a user.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <span>

#include "kernels/device.h"
#include "kernels/range.h"

namespace tandem::reference {

/// Row-major, one row per token or per output column.
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// [rows x columns] floats as a matrix.
Matrix from_floats(const float* values, int64_t rows, int64_t columns);

/// Values of a row of k elements in file format: [1 x k].
Matrix dequantize_row(DType dtype, const std::byte* row, int64_t k);
/// All rows: [source.columns x source.k].
Matrix dequantize(const MatrixSource& source);
/// What a KV cache gives back of keys or values: every element rounded to the format, q8_0 in
/// blocks of 32 by their largest magnitude in float, as kernels do.
Matrix kv_rounded(DType dtype, const Matrix& rows);
/// Values of a row of n elements as KernelSet::convert() leaves it: [1 x n].
Matrix kv_row(DType dtype, const std::byte* row, int64_t n);
/// Row token_ids[t] of the table: [tokens x table.k].
Matrix embed(const MatrixSource& table, std::span<const int32_t> token_ids);

/// Each consecutive group of weight.size() elements of a row, x / sqrt(mean(x^2) + eps) * weight:
/// the norm of a layer's input (one group a row) and the QK norm (one group a head).
Matrix rms_norm(const Matrix& x, std::span<const float> weight, double eps);
/// x [tokens x k] times the transpose of w [columns x k], plus bias [columns] where given.
Matrix linear(const Matrix& x, const Matrix& w, std::span<const float> bias = {});
/// silu(gate) * up, element by element (Shazeer 2020, eq. 6).
Matrix swiglu(const Matrix& gate, const Matrix& up);

/// Rotates the leading 2 * frequencies.size() elements of every head of x [tokens x heads *
/// head_dim] by positions[t] * frequencies[i].
void rope(Matrix& x, int64_t head_dim, RopeOrder order, std::span<const int64_t> positions,
          std::span<const double> frequencies);

/// Softmax states of all tokens and query heads; empty: o = 0, m = -infinity, l = 0.
struct SoftmaxState {
  Matrix o;  ///< [tokens x heads * head_dim], not normalised
  Matrix m;  ///< [tokens x heads], largest score
  Matrix l;  ///< [tokens x heads], sum of exp(score - m)
};

/// One part of attention over all heads. `cached_*` are [past x kv_heads * head_dim], `new_*`
/// [tokens x kv_heads * head_dim].
struct AttentionInput {
  const Matrix& q;  ///< [tokens x kv_heads * group * head_dim]
  const Matrix& cached_keys;
  const Matrix& cached_values;
  const Matrix& new_keys;
  const Matrix& new_values;
  Range context = {};                ///< cached positions that are seen
  bool include_new = true;           ///< a token's ancestors and itself are seen
  const int32_t* parents = nullptr;  ///< [tokens], -1 = the context; null = a chain
  int64_t head_dim = 0;
  int64_t group = 1;  ///< query heads per kv head
  double scale = 1;
};
SoftmaxState attention(const AttentionInput& input);
/// The state over the union of two disjoint sets of positions (Milakov and Gimelshein 2018, eq. 4).
SoftmaxState merge(const SoftmaxState& a, const SoftmaxState& b);
/// o / l: [tokens x heads * head_dim].
Matrix attention_output(const SoftmaxState& state);

/// Index of the largest value; ties go to the lowest.
int64_t argmax(std::span<const double> values);

}  // namespace tandem::reference
