#include "kernels/reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/formats.h"
#include "kernels/half.h"
#include "kernels/kv_format.h"

namespace tandem::reference {
namespace {

template <class T>
T read(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

/// Element j of a block of a format that formats.h lists.
double quantised_element(DType dtype, const std::byte* block, int64_t j) {
  double value = 0;
  with_quant_format(dtype, [&](auto format) {
    constexpr QuantFormat f = decltype(format)::kFormat;
    Quants quants;
    format.decode(block, j / 32, quants);
    const int q = quants.q[j % 32], half = static_cast<int>(j % 32 / 16);
    value = double{f16_to_f32(quants.d)} * quants.scale[half] *
            (f.table ? kIq4Values[q] : q - f.offset);
    if (f.has_min) value += double{f16_to_f32(quants.shift)} * quants.min[half];
  });
  return value;
}

/// Element i of a row, by the layout that dtype.h states.
double element(DType dtype, const std::byte* row, int64_t i) {
  const std::byte* block = row + i / info(dtype).block_size * info(dtype).block_bytes;
  const int64_t j = i % info(dtype).block_size;
  switch (dtype) {
    case DType::kF32:
      return read<float>(block);
    case DType::kF16:
      return f16_to_f32(read<uint16_t>(block));
    case DType::kBF16:
      return bf16_to_f32(read<uint16_t>(block));
    case DType::kQ8_0:
      return double{f16_to_f32(read<uint16_t>(block))} * read<int8_t>(block + 2 + j);
    case DType::kQ4_0:
      break;
    default:
      return quantised_element(dtype, block, j);
  }
  const int byte = read<uint8_t>(block + 2 + j % 16);
  return double{f16_to_f32(read<uint16_t>(block))} * ((j < 16 ? byte & 15 : byte >> 4) - 8);
}

/// The largest magnitude of a block counts 127; its share is kept in f16.
void round_block(double* x) {
  float top = 0;
  for (int64_t i = 0; i < kKvBlock; ++i) top = std::max(top, static_cast<float>(std::abs(x[i])));
  const double scale = f16_to_f32(f32_to_f16(top / 127.0f));
  const float inverse = top > 1e-30f ? 127.0f / top : 0.0f;
  for (int64_t i = 0; i < kKvBlock; ++i)
    x[i] = std::nearbyint(static_cast<float>(x[i]) * inverse) * scale;
}

/// Keys and values of every position that a part may see, the cached before the new.
struct Rows {
  Matrix keys, values;
};

Rows seen_rows(const AttentionInput& in) {
  const int64_t cached = in.context.size(), fresh = in.include_new ? in.q.rows() : 0;
  const int64_t width = in.new_keys.cols();
  Rows rows{Matrix(cached + fresh, width), Matrix(cached + fresh, width)};
  if (cached > 0) {
    rows.keys.topRows(cached) = in.cached_keys.middleRows(in.context.begin, cached);
    rows.values.topRows(cached) = in.cached_values.middleRows(in.context.begin, cached);
  }
  rows.keys.bottomRows(fresh) = in.new_keys.topRows(fresh);
  rows.values.bottomRows(fresh) = in.new_values.topRows(fresh);
  return rows;
}

/// Which rows of seen_rows token t sees: the cached ones, itself and its ancestors.
std::vector<int64_t> visible_rows(const AttentionInput& in, int64_t t) {
  std::vector<int64_t> visible;
  for (int64_t i = 0; i < in.context.size(); ++i) visible.push_back(i);
  if (!in.include_new) return visible;
  for (int64_t a = t; a >= 0; a = in.parents ? in.parents[a] : a - 1)
    visible.push_back(in.context.size() + a);
  return visible;
}

/// Some rows of a matrix. An indexed view of Eigen's would do, but copies the indices for every
/// row.
Matrix gathered(const Matrix& from, const std::vector<int64_t>& rows) {
  Matrix out(rows.size(), from.cols());
  for (size_t i = 0; i < rows.size(); ++i) out.row(static_cast<int64_t>(i)) = from.row(rows[i]);
  return out;
}

}  // namespace

Matrix from_floats(const float* values, int64_t rows, int64_t columns) {
  using FloatMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  return Eigen::Map<const FloatMatrix>(values, rows, columns).cast<double>();
}

Matrix dequantize_row(DType dtype, const std::byte* row, int64_t k) {
  Matrix values(1, k);
  for (int64_t i = 0; i < k; ++i) values(0, i) = element(dtype, row, i);
  return values;
}

Matrix dequantize(const MatrixSource& source) {
  Matrix values(source.columns, source.k);
  const int64_t bytes = row_bytes(source.dtype, source.k);
  for (int64_t c = 0; c < source.columns; ++c)
    values.row(c) = dequantize_row(source.dtype, source.rows + c * bytes, source.k);
  return values;
}

Matrix kv_rounded(DType dtype, const Matrix& rows) {
  Matrix kept = rows;
  if (dtype == DType::kQ8_0) {
    for (int64_t i = 0; i < kept.size(); i += kKvBlock) round_block(kept.data() + i);
    return kept;
  }
  return kept.unaryExpr([dtype](double exact) -> double {
    const auto x = static_cast<float>(exact);
    if (dtype == DType::kF16) return f16_to_f32(f32_to_f16(x));
    return dtype == DType::kBF16 ? bf16_to_f32(f32_to_bf16(x)) : x;
  });
}

Matrix kv_row(DType dtype, const std::byte* row, int64_t n) {
  if (dtype != DType::kQ8_0) return dequantize_row(dtype, row, n);
  Matrix values(1, n);
  for (int64_t i = 0; i < n; ++i)
    values(0, i) = read<int8_t>(row + i) *
                   double{f16_to_f32(read<uint16_t>(row + n + i / kKvBlock * kKvScaleBytes))};
  return values;
}

Matrix embed(const MatrixSource& table, std::span<const int32_t> token_ids) {
  Matrix x(token_ids.size(), table.k);
  const int64_t bytes = row_bytes(table.dtype, table.k);
  for (size_t t = 0; t < token_ids.size(); ++t)
    x.row(t) = dequantize_row(table.dtype, table.rows + token_ids[t] * bytes, table.k);
  return x;
}

Matrix rms_norm(const Matrix& x, std::span<const float> weight, double eps) {
  const auto size = static_cast<int64_t>(weight.size());
  const Eigen::Map<const Eigen::RowVectorXf> scale(weight.data(), size);
  Matrix out(x.rows(), x.cols());
  for (int64_t t = 0; t < x.rows(); ++t) {
    for (int64_t begin = 0; begin < x.cols(); begin += size) {
      const auto group = x.row(t).segment(begin, size);
      const double inverse = 1 / std::sqrt(group.squaredNorm() / static_cast<double>(size) + eps);
      out.row(t).segment(begin, size) = inverse * group.cwiseProduct(scale.cast<double>());
    }
  }
  return out;
}

Matrix linear(const Matrix& x, const Matrix& w, std::span<const float> bias) {
  Matrix y = x * w.transpose();
  if (!bias.empty())
    y.rowwise() += Eigen::Map<const Eigen::RowVectorXf>(bias.data(), w.rows()).cast<double>();
  return y;
}

Matrix swiglu(const Matrix& gate, const Matrix& up) {
  return gate.array() / (1 + (-gate.array()).exp()) * up.array();
}

void rope(Matrix& x, int64_t head_dim, RopeOrder order, std::span<const int64_t> positions,
          std::span<const double> frequencies) {
  const auto pairs = static_cast<int64_t>(frequencies.size());
  for (int64_t t = 0; t < x.rows(); ++t) {
    for (int64_t i = 0; i < pairs; ++i) {
      const double angle = static_cast<double>(positions[t]) * frequencies[i];
      const int64_t first = order == RopeOrder::kNormal ? 2 * i : i;
      const int64_t second = order == RopeOrder::kNormal ? 2 * i + 1 : i + pairs;
      for (int64_t head = 0; head < x.cols(); head += head_dim) {
        const double a = x(t, head + first), b = x(t, head + second);
        x(t, head + first) = a * std::cos(angle) - b * std::sin(angle);
        x(t, head + second) = a * std::sin(angle) + b * std::cos(angle);
      }
    }
  }
}

SoftmaxState attention(const AttentionInput& in) {
  const Rows rows = seen_rows(in);
  const int64_t tokens = in.q.rows(), heads = in.q.cols() / in.head_dim, d = in.head_dim;
  const double lowest = -std::numeric_limits<double>::infinity();
  SoftmaxState state{Matrix::Zero(tokens, heads * d), Matrix::Constant(tokens, heads, lowest),
                     Matrix::Zero(tokens, heads)};
  for (int64_t t = 0; t < tokens; ++t) {
    const std::vector<int64_t> visible = visible_rows(in, t);
    if (visible.empty()) continue;
    const Matrix keys = gathered(rows.keys, visible), values = gathered(rows.values, visible);
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t kv = h / in.group * d;
      const Eigen::VectorXd scores =
          in.scale * (keys.middleCols(kv, d) * in.q.row(t).segment(h * d, d).transpose());
      state.m(t, h) = scores.maxCoeff();
      const Eigen::VectorXd weights = (scores.array() - state.m(t, h)).exp();
      state.l(t, h) = weights.sum();
      state.o.row(t).segment(h * d, d) = weights.transpose() * values.middleCols(kv, d);
    }
  }
  return state;
}

SoftmaxState merge(const SoftmaxState& a, const SoftmaxState& b) {
  SoftmaxState merged{a.o, a.m.cwiseMax(b.m), a.l};
  const int64_t d = a.o.cols() / a.m.cols();
  for (int64_t t = 0; t < a.m.rows(); ++t) {
    for (int64_t h = 0; h < a.m.cols(); ++h) {
      const double m = merged.m(t, h);
      const double weight_a = a.l(t, h) > 0 ? std::exp(a.m(t, h) - m) : 0;
      const double weight_b = b.l(t, h) > 0 ? std::exp(b.m(t, h) - m) : 0;
      merged.l(t, h) = weight_a * a.l(t, h) + weight_b * b.l(t, h);
      merged.o.row(t).segment(h * d, d) =
          weight_a * a.o.row(t).segment(h * d, d) + weight_b * b.o.row(t).segment(h * d, d);
    }
  }
  return merged;
}

Matrix attention_output(const SoftmaxState& state) {
  Matrix out(state.o.rows(), state.o.cols());
  const int64_t d = state.o.cols() / state.m.cols();
  for (int64_t h = 0; h < state.m.cols(); ++h)
    out.middleCols(h * d, d) =
        state.o.middleCols(h * d, d).array().colwise() / state.l.col(h).array();
  return out;
}

int64_t argmax(std::span<const double> values) {
  int64_t best = 0;
  for (size_t i = 1; i < values.size(); ++i)
    if (values[i] > values[best]) best = static_cast<int64_t>(i);
  return best;
}

}  // namespace tandem::reference
