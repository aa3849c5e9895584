#include "pipeline/model_warnings.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>

#include "text/tokenizer.h"

namespace mochi {
namespace {

bool is_space(char letter) { return letter == ' ' || (letter >= '\t' && letter <= '\r'); }

// A character of a word: letters, digits, marks inside words, and all that is not ASCII.
bool is_word_letter(char letter) {
  const auto code = static_cast<unsigned char>(letter);
  return code >= 0x80 || (code >= '0' && code <= '9') || (code >= 'a' && code <= 'z') ||
         (code >= 'A' && code <= 'Z') || code == '\'' || code == '-';
}

char lower(char letter) {
  return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
}

// The words of a text in lower case, each once, in the order of their first use.
std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  const auto finish = [&] {
    if (!word.empty() && std::ranges::find(words, word) == words.end()) words.push_back(word);
    word.clear();
  };
  for (const char letter : text) {
    if (is_word_letter(letter)) {
      word += lower(letter);
    } else {
      finish();
    }
  }
  finish();
  return words;
}

// At most so many bytes, cut between characters, without what could steer a terminal.
std::string shorten(std::string_view word) {
  constexpr std::size_t kMaxBytes = 40;
  std::size_t end = std::min(word.size(), kMaxBytes);
  while (end > 0 && end < word.size() && (static_cast<unsigned char>(word[end]) & 0xc0U) == 0x80) {
    --end;
  }
  std::string text(word.substr(0, end));
  std::erase_if(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
  return end < word.size() ? text + "..." : text;
}

// The word that byte `at` belongs to, or the next one if that is a space.
std::string_view word_at(std::string_view text, std::size_t at) {
  while (at < text.size() && is_space(text[at])) ++at;
  std::size_t begin = at;
  while (begin > 0 && !is_space(text[begin - 1])) --begin;
  std::size_t end = at;
  while (end < text.size() && !is_space(text[end])) ++end;
  return text.substr(begin, end - begin);
}

std::string name_range(const SeenRange& range) {
  if (range.least == range.largest) return fmt::to_string(range.least);
  return fmt::format("{} to {}", range.least, range.largest);
}

bool is_outside(const SeenRange& range, int value) {
  return range.largest > 0 && (value < range.least || value > range.largest);
}

void warn_of_sizes(const TrainedOn& seen, const GenerateRequest& request,
                   std::vector<std::string>& warnings) {
  if (is_outside(seen.width, request.width) || is_outside(seen.height, request.height)) {
    warnings.push_back(fmt::format(
        "this model was trained on videos of {} x {} pixels, not {} x {}: they may look wrong",
        name_range(seen.width), name_range(seen.height), request.width, request.height));
  }
  if (is_outside(seen.num_frames, request.num_frames)) {
    warnings.push_back(fmt::format(
        "this model was trained on videos of {} frames, not {}: objects may vanish or jump",
        name_range(seen.num_frames), request.num_frames));
  }
}

void warn_of_words(const char* field, const std::string& text,
                   const std::vector<std::string>& known, std::vector<std::string>& warnings) {
  std::vector<std::string> strange = words_of(text);
  std::erase_if(strange,
                [&](const std::string& word) { return std::ranges::binary_search(known, word); });
  if (known.empty() || strange.empty()) return;
  constexpr std::size_t kMaxShown = 5;
  std::string names;
  for (std::size_t i = 0; i < std::min(strange.size(), kMaxShown); ++i) {
    names += fmt::format("{}'{}'", i == 0 ? "" : ", ", shorten(strange[i]));
  }
  if (strange.size() > kMaxShown) names += fmt::format(" and {} more", strange.size() - kMaxShown);
  warnings.push_back(fmt::format("{}: this model was not trained on the word{} {}", field,
                                 strange.size() == 1 ? "" : "s", names));
}

void warn_of_cut(const char* field, const std::string& text, const Tokenizer& tokenizer,
                 std::int64_t max_tokens, std::vector<std::string>& warnings) {
  const std::optional<TextCut> cut = tokenizer.find_cut(text, max_tokens);
  if (!cut) return;
  warnings.push_back(fmt::format(
      "{}: has {} tokens, of which the model reads {}: the text is cut at '{}' (byte {})", field,
      cut->num_tokens, max_tokens, shorten(word_at(text, cut->first_dropped)), cut->first_dropped));
}

}  // namespace

std::vector<std::string> model_warnings(const ModelDirectory& directory,
                                        const GenerateRequest& request) {
  std::vector<std::string> warnings;
  if (directory.has_random_weights()) return warnings;
  const ModelConfig& config = directory.config();
  warn_of_sizes(config.trained_on, request, warnings);
  std::optional<Tokenizer> tokenizer;
  if (const auto path = directory.find_tokenizer()) tokenizer.emplace(*path);
  const auto warn = [&](const char* field, const std::string& text) {
    if (text.empty()) return;
    if (tokenizer) {
      warn_of_cut(field, text, *tokenizer, config.dit.max_text_tokens, warnings);
    }
    warn_of_words(field, text, config.trained_on.words, warnings);
  };
  warn("prompt", request.prompt);
  warn("negative_prompt", request.negative_prompt);
  return warnings;
}

}  // namespace mochi
