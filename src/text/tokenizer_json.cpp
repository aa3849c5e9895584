#include "text/tokenizer_json.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "base/error.h"
#include "io/json.h"

namespace mochi {
namespace {

// ---- Protocol buffers: a message is a sequence of fields, each with its number and wire type ----

enum class WireType : std::uint8_t { kVarint = 0, kBytes = 2, kFixed32 = 5 };

void put_varint(std::uint64_t value, std::string& out) {
  constexpr unsigned kBits = 7;
  while (value >= 1U << kBits) {
    out += static_cast<char>((value & 0x7fU) | 0x80U);
    value >>= kBits;
  }
  out += static_cast<char>(value);
}

void put_tag(unsigned field, WireType type, std::string& out) {
  put_varint((field << 3U) | static_cast<unsigned>(type), out);
}

void put_int(unsigned field, std::uint64_t value, std::string& out) {
  put_tag(field, WireType::kVarint, out);
  put_varint(value, out);
}

void put_bytes(unsigned field, std::string_view value, std::string& out) {
  put_tag(field, WireType::kBytes, out);
  put_varint(value.size(), out);
  out += value;
}

void put_float(unsigned field, float value, std::string& out) {
  put_tag(field, WireType::kFixed32, out);
  const auto bits = std::bit_cast<std::uint32_t>(value);
  for (unsigned shift = 0; shift < 32; shift += 8)
    out += static_cast<char>((bits >> shift) & 0xffU);
}

// Numbers of fields in sentencepiece_model.proto.
namespace proto {
constexpr unsigned kPieces = 1, kTrainerSpec = 2, kNormalizerSpec = 3;               // ModelProto
constexpr unsigned kPiece = 1, kScore = 2, kType = 3;                                // piece
constexpr unsigned kModelType = 3, kUnkPiece = 45;                                   // TrainerSpec
constexpr unsigned kCharsmap = 2, kDummyPrefix = 3, kExtraSpaces = 4, kEscapes = 5;  // Normalizer
constexpr std::uint64_t kUnigram = 1;
}  // namespace proto

enum class PieceType : std::uint8_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4 };

struct Piece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::kNormal;
};

// ---- Base64 ----

std::optional<unsigned> parse_digit(char digit) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const std::size_t value = kDigits.find(digit);
  return value == std::string_view::npos ? std::nullopt : std::optional(unsigned(value));
}

std::optional<std::string> parse_base64(std::string_view text) {
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string bytes;
  unsigned bits = 0;
  unsigned num_bits = 0;
  for (const char letter : text) {
    const std::optional<unsigned> digit = parse_digit(letter);
    if (!digit) return std::nullopt;
    bits = ((bits << 6U) | *digit) & 0xffffU;
    num_bits += 6;
    if (num_bits < 8) continue;
    num_bits -= 8;
    bytes += static_cast<char>((bits >> num_bits) & 0xffU);
  }
  return bytes;
}

// ---- tokenizer.json ----

constexpr std::string_view kExtraId = "<extra_id_";

// Parts of the file that change how a text is split: normalisers and pre-tokenizers.
std::vector<Json> list_parts(const Json& root, const char* key, const char* list_key) {
  if (!root.is_object() || !root.contains(key) || root[key].is_null()) return {};
  const Json& part = root[key];
  const bool is_list = part.is_object() && part.contains(list_key) && part[list_key].is_array();
  return is_list ? part[list_key].get<std::vector<Json>>() : std::vector<Json>{part};
}

class TokenizerFile {
 public:
  TokenizerFile(std::string_view content, const std::filesystem::path& path)
      : source_(path.string()), json_(parse_json_file(content, path)) {
    JsonReader root(json_, source_);
    std::optional<JsonReader> model = root.get_object("model");
    if (!model) fail("{}: wanted a tokenizer.json, which has a 'model'", source_);
    const std::string type = model->get_string("type", "");
    if (type != "Unigram") {
      fail("{}: wanted T5's model, 'Unigram', found '{}'", model->locate("type"), type);
    }
    unk_id_ = model->require_int("unk_id");
    read_specials();
    read_pieces(*model);
    read_normalizers();
    check_pre_tokenizers();
  }

  std::string serialise() const {
    std::string out;
    for (const Piece& piece : pieces_) {
      std::string message;
      put_bytes(proto::kPiece, piece.text, message);
      put_float(proto::kScore, piece.score, message);
      put_int(proto::kType, static_cast<std::uint64_t>(piece.type), message);
      put_bytes(proto::kPieces, message, out);
    }
    std::string trainer;
    put_int(proto::kModelType, proto::kUnigram, trainer);
    put_bytes(proto::kUnkPiece, pieces_[static_cast<std::size_t>(unk_id_)].text, trainer);
    put_bytes(proto::kTrainerSpec, trainer, out);
    std::string normalizer;
    put_bytes(proto::kCharsmap, charsmap_, normalizer);
    put_int(proto::kDummyPrefix, 1, normalizer);
    put_int(proto::kExtraSpaces, 1, normalizer);
    put_int(proto::kEscapes, 1, normalizer);
    put_bytes(proto::kNormalizerSpec, normalizer, out);
    return out;
  }

 private:
  void read_specials() {
    if (!json_.contains("added_tokens") || !json_["added_tokens"].is_array()) return;
    for (const Json& item : json_["added_tokens"]) {
      JsonReader token(item, source_, "added_tokens");
      const std::string text = token.require_string("content");
      (token.get_bool("special", false) ? specials_ : user_defined_).insert(text);
    }
  }

  PieceType type_of(const std::string& text) const {
    if (std::ssize(pieces_) == unk_id_) return PieceType::kUnknown;
    if (specials_.contains(text)) return PieceType::kControl;
    return user_defined_.contains(text) ? PieceType::kUserDefined : PieceType::kNormal;
  }

  void read_pieces(JsonReader& model) {
    const Json* vocab = model.get_json("vocab");
    if (vocab == nullptr || !vocab->is_array()) {
      fail("{}: wanted a list of pieces with their scores", model.locate("vocab"));
    }
    for (const Json& item : *vocab) {
      const bool is_piece =
          item.is_array() && item.size() == 2 && item[0].is_string() && item[1].is_number();
      const float score = is_piece ? item[1].get<float>() : NAN;
      if (!std::isfinite(score) || item[0].get_ref<const std::string&>().empty()) {
        fail("{}: wanted a piece and its score as item {}", model.locate("vocab"), pieces_.size());
      }
      const auto text = item[0].get<std::string>();
      pieces_.push_back({text, score, type_of(text)});
    }
    while (!pieces_.empty() && pieces_.back().text.starts_with(kExtraId)) pieces_.pop_back();
    if (unk_id_ < 0 || unk_id_ >= std::ssize(pieces_)) {
      fail("{}: wanted the number of a piece, 0 to {}, found {}", model.locate("unk_id"),
           std::ssize(pieces_) - 1, unk_id_);
    }
  }

  // T5's character map, and the removal of repeated spaces, which the model does anyway.
  void read_normalizers() {
    for (const Json& part : list_parts(json_, "normalizer", "normalizers")) {
      JsonReader reader(part, source_, "normalizer");
      const std::string type = reader.require_string("type");
      if (type == "Precompiled") {
        const auto charsmap = parse_base64(reader.get_string("precompiled_charsmap", ""));
        if (!charsmap) fail("{}: wanted base64", reader.locate("precompiled_charsmap"));
        charsmap_ = *charsmap;
      } else if (type != "Replace" && type != "Strip") {
        fail("{}: '{}' is not a normaliser of T5", reader.locate("type"), type);
      }
    }
  }

  void check_pre_tokenizers() const {
    for (const Json& part : list_parts(json_, "pre_tokenizer", "pretokenizers")) {
      JsonReader reader(part, source_, "pre_tokenizer");
      const std::string type = reader.require_string("type");
      if (type == "Metaspace" || type == "WhitespaceSplit") continue;
      fail("{}: '{}' is not a pre-tokenizer of T5", reader.locate("type"), type);
    }
  }

  std::string source_;
  Json json_;
  std::int64_t unk_id_ = 0;
  std::set<std::string> specials_;
  std::set<std::string> user_defined_;
  std::vector<Piece> pieces_;
  std::string charsmap_;
};

}  // namespace

std::string make_sentencepiece_model(std::string_view content, const std::filesystem::path& path) {
  return TokenizerFile(content, path).serialise();
}

}  // namespace mochi
