#include "runtime/sentencepiece_model.h"

#include <cassert>
#include <cstdint>
#include <string_view>

namespace tandem {
namespace {

// Protocol buffers: a field is its number and wire type in a varint, then the value.
constexpr uint64_t kVarint = 0;
constexpr uint64_t kLengthDelimited = 2;
constexpr uint64_t kFixed32 = 5;

void append_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

/// Negative numbers take ten bytes, as the format says.
void append_integer(std::string& out, uint64_t field, int64_t value) {
  append_varint(out, field << 3 | kVarint);
  append_varint(out, static_cast<uint64_t>(value));
}

void append_bytes(std::string& out, uint64_t field, std::string_view bytes) {
  append_varint(out, field << 3 | kLengthDelimited);
  append_varint(out, bytes.size());
  out += bytes;
}

void append_float(std::string& out, uint64_t field, float value) {
  append_varint(out, field << 3 | kFixed32);
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

/// Field numbers of sentencepiece_model.proto.
namespace field {
constexpr uint64_t kPieces = 1, kTrainerSpec = 2, kNormalizerSpec = 3;  // ModelProto
constexpr uint64_t kPiece = 1, kScore = 2, kType = 3;                   // its pieces
constexpr uint64_t kModelType = 3, kVocabSize = 4, kByteFallback = 35;  // TrainerSpec
constexpr uint64_t kUnkId = 40, kBosId = 41, kEosId = 42, kPadId = 43;  // TrainerSpec
constexpr uint64_t kUnkPiece = 45, kBosPiece = 46, kEosPiece = 47;      // TrainerSpec
constexpr uint64_t kName = 1, kAddDummyPrefix = 3, kRemoveSpaces = 4,
                   kEscapeSpaces = 5;  // Normalizer
}  // namespace field

constexpr int64_t kBpe = 2;  ///< TrainerSpec.ModelType

std::string piece_message(const Vocabulary& vocabulary, size_t token) {
  std::string piece;
  append_bytes(piece, field::kPiece, vocabulary.tokens[token]);
  append_float(piece, field::kScore, vocabulary.scores[token]);
  append_integer(piece, field::kType, vocabulary.types[token]);
  return piece;
}

std::string trainer_spec(const Vocabulary& vocabulary) {
  const auto piece = [&vocabulary](int32_t token) -> std::string_view {
    return vocabulary.tokens[static_cast<size_t>(token)];
  };
  std::string spec;
  append_integer(spec, field::kModelType, kBpe);
  append_integer(spec, field::kVocabSize, static_cast<int64_t>(vocabulary.tokens.size()));
  append_integer(spec, field::kByteFallback, 1);
  append_integer(spec, field::kUnkId, vocabulary.unknown);
  append_integer(spec, field::kBosId, vocabulary.bos);
  append_integer(spec, field::kEosId, vocabulary.eos);
  append_integer(spec, field::kPadId, -1);
  append_bytes(spec, field::kUnkPiece, piece(vocabulary.unknown));
  append_bytes(spec, field::kBosPiece, piece(vocabulary.bos));
  append_bytes(spec, field::kEosPiece, piece(vocabulary.eos));
  return spec;
}

std::string normalizer_spec(const Vocabulary& vocabulary) {
  std::string spec;
  append_bytes(spec, field::kName, "identity");
  append_integer(spec, field::kAddDummyPrefix, vocabulary.add_space_prefix);
  append_integer(spec, field::kRemoveSpaces, 0);
  append_integer(spec, field::kEscapeSpaces, 1);
  return spec;
}

}  // namespace

std::string sentencepiece_model(const Vocabulary& vocabulary) {
  assert(vocabulary.scores.size() == vocabulary.tokens.size());
  assert(vocabulary.types.size() == vocabulary.tokens.size());
  std::string model;
  for (size_t token = 0; token < vocabulary.tokens.size(); ++token)
    append_bytes(model, field::kPieces, piece_message(vocabulary, token));
  append_bytes(model, field::kTrainerSpec, trainer_spec(vocabulary));
  append_bytes(model, field::kNormalizerSpec, normalizer_spec(vocabulary));
  return model;
}

}  // namespace tandem
