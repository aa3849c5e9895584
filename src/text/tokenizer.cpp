#include "text/tokenizer.h"

#include <sentencepiece_processor.h>

#include "base/error.h"
#include "base/file_kind.h"
#include "base/mapped_file.h"
#include "base/utf8.h"
#include "text/tokenizer_json.h"

namespace mochi {

Tokenizer::Tokenizer(const std::filesystem::path& path)
    : processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()) {
  const MappedFile file(path);
  const bool is_json = path.extension() == ".json";
  const std::string converted = is_json ? make_sentencepiece_model(file.text(), path) : "";
  const auto status = processor_->LoadFromSerializedProto(is_json ? converted : file.text());
  if (!status.ok() && is_json) {
    fail("{}: its pieces make no tokenizer: {}", path.string(), status.error_message());
  } else if (!status.ok()) {
    fail_wrong_kind(path, file.bytes(), "a complete SentencePiece model");
  }
  end_id_ = processor_->eos_id();
  if (end_id_ < 0) fail("{}: the model has no end token '</s>'", path.string());
}

Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

std::int64_t Tokenizer::vocab_size() const { return processor_->GetPieceSize(); }

std::optional<TextCut> Tokenizer::find_cut(std::string_view text, std::int64_t max_tokens) const {
  const sentencepiece::ImmutableSentencePieceText pieces = processor_->EncodeAsImmutableProto(text);
  const auto num_pieces = static_cast<std::int64_t>(pieces.pieces_size());
  if (num_pieces <= max_tokens - 1) return std::nullopt;
  return TextCut{.num_tokens = num_pieces + 1,
                 .first_dropped = pieces.pieces(static_cast<int>(max_tokens - 1)).begin()};
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, std::int64_t max_tokens,
                                            std::string_view what) const {
  if (const auto invalid = find_invalid_utf8(text)) {
    refuse(std::string(what), "not valid UTF-8 at byte {} (0x{:02x})", *invalid,
           static_cast<unsigned char>(text[*invalid]));
  }
  if (text.empty()) return {};
  std::vector<int> ids;
  const auto status = processor_->Encode(text, &ids);
  if (!status.ok()) fail("{}: cannot be tokenized: {}", what, status.error_message());
  if (std::ssize(ids) > max_tokens - 1) ids.resize(static_cast<std::size_t>(max_tokens - 1));
  ids.push_back(end_id_);
  return {ids.begin(), ids.end()};
}

}  // namespace mochi
