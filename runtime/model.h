// A model whose weights can be read: from a GGUF file or made up from a shape. Nothing is placed
// here.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "sim/model_spec.h"

namespace tandem {

/// One layer's tensors. Matrices are sources in file format; vectors are float32 copies, empty
/// where absent.
struct LayerWeights {
  MatrixSource q, k, v, out, gate, up, down;  ///< q, k, v: segment head_dim
  std::vector<float> attn_norm, ffn_norm;     ///< [hidden_size]
  std::vector<float> q_bias, k_bias, v_bias;  ///< [columns] or empty
  std::vector<float> q_norm, k_norm;          ///< [head_dim] or empty
};

/// Values of Vocabulary::types, those of tokenizer.ggml.token_type.
namespace token_type {
constexpr int32_t kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6;
}

/// Vocabulary as a GGUF states it. Arrays have an entry for each token, or none where absent.
struct Vocabulary {
  std::string model;            ///< tokenizer.ggml.model: "llama" SentencePiece, "gpt2" byte BPE
  std::string pre = "default";  ///< tokenizer.ggml.pre: how "gpt2" splits text into words
  std::vector<std::string> tokens;
  std::vector<float> scores;        ///< of "llama"
  std::vector<std::string> merges;  ///< of "gpt2", any number: two tokens and a space between them
  std::vector<int32_t> types;
  int32_t bos = 1, eos = 2, unknown = 0, eot = -1;  ///< -1 = none
  std::optional<bool> add_bos;                      ///< absent: as is usual for model and pre
  bool add_eos = false, add_space_prefix = true;
};

/// Bytes behind the sources: a read-only mapping of a file, or address space that is filled with
/// generated blocks on demand, so that the source and its placed copy are never both resident as a
/// whole.
class WeightStorage {
 public:
  virtual ~WeightStorage() = default;
  /// Makes a matrix's bytes readable; called with all bytes of one matrix right before it is
  /// placed, and once for the embedding, which stays. Safe to repeat: it writes the same bytes
  /// again, so nobody may read them meanwhile.
  virtual void prepare(const std::byte* /*data*/, int64_t /*bytes*/) {}
  /// The pages behind these bytes are not needed again (they were placed): give them back to the
  /// system. What is read again must be prepared again; so a tied lm_head, which is the embedding,
  /// is not released.
  virtual void release(const std::byte* data, int64_t bytes) = 0;
};

struct Model {
  ModelSpec spec;
  MatrixSource embedding;  ///< columns = vocab_size rows, k = hidden_size
  MatrixSource lm_head;    ///< equals embedding where tied
  std::vector<LayerWeights> layers;
  std::vector<float> output_norm;
  std::optional<Vocabulary> vocabulary;  ///< absent for shapes
  std::shared_ptr<WeightStorage> storage;
};

/// Opens a GGUF v2/v3 (llama, qwen2, qwen3) by mmap. No length or offset of the file is trusted.
/// Error: `x.gguf: byte 1234: ...` (what was found, what was expected).
Model open_gguf(const std::string& path);
/// The header only: shape and dtypes, for planning.
ModelSpec read_gguf_spec(const std::string& path);

/// A model of this shape with seeded pseudo-random weights: every block different, magnitudes
/// scaled so that activations neither vanish nor explode over the layers. Bytes depend on spec and
/// seed alone. A matrix is made by storage->prepare, before which it reads as zeros.
Model synthesize_model(const ModelSpec& spec, uint64_t seed);
/// Writes the same weights as a GGUF v3 with a dummy vocabulary, atomically. `progress` gets (bytes
/// done, all).
void write_synthetic_gguf(const ModelSpec& spec, uint64_t seed, const std::string& path,
                          const std::function<void(int64_t, int64_t)>& progress);

}  // namespace tandem
