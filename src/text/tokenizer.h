// Conversion of a prompt to token ids, by a SentencePiece model: spiece.model, or a tokenizer.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace mochi {

// Where a text is cut because it has too many tokens.
struct TextCut {
  std::int64_t num_tokens = 0;    // tokens of the whole text and the end token
  std::size_t first_dropped = 0;  // index of a byte of the text
};

class Tokenizer {
 public:
  // Throws Error if the file is missing or is no such model.
  explicit Tokenizer(const std::filesystem::path& path);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  // Returns the ids followed by the end token, at most max_tokens in total: a longer text gives its
  // first max_tokens − 1 ids and the end token. An empty text has no tokens. Throws Error if the
  // text is not valid UTF-8; `what` is its name in the message ("prompt").
  std::vector<std::int32_t> encode(std::string_view text, std::int64_t max_tokens,
                                   std::string_view what) const;

  // Returns the cut that encode() would make; nothing if it reads the whole text, which must be
  // valid UTF-8.
  std::optional<TextCut> find_cut(std::string_view text, std::int64_t max_tokens) const;

  std::int64_t vocab_size() const;

 private:
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  std::int32_t end_id_ = 0;
};

}  // namespace mochi
