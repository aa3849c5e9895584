#include "sparsity/key_suggestion.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/nearest.h"

namespace mochi {
namespace {

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  parts.reserve(static_cast<std::size_t>(std::ranges::count(text, separator)) + 1);
  for (;;) {
    const std::size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

// "attn.top_keys" is the section "attn" and the name "top_keys".
struct KeyParts {
  explicit KeyParts(std::string_view key) {
    const std::size_t dot = key.rfind('.');
    if (dot != std::string_view::npos) section = key.substr(0, dot);
    name = key.substr(dot == std::string_view::npos ? 0 : dot + 1);
    words = split(name, '_');
  }
  std::string_view section, name;
  std::vector<std::string_view> words;
};

// A third of the letters may be wrong.
bool is_misspelt(std::string_view typed, std::string_view known) {
  const auto [shorter, longer] = std::minmax({typed.size(), known.size()});
  return 3 * (longer - shorter) <= longer && 3 * edit_distance(typed, known) <= longer;
}

std::string initials_of(const KeyParts& key) {
  std::string initials;
  for (const std::string_view word : key.words) initials += word.substr(0, 1);
  return initials;
}

// Words of three letters and more may be shortened ("sched").
bool has_word(const KeyParts& known, std::string_view typed) {
  return std::ranges::any_of(known.words, [&](std::string_view word) {
    return word == typed || (typed.size() >= 3 && word.starts_with(typed));
  });
}

bool has_all_words(const KeyParts& known, const KeyParts& typed) {
  return std::ranges::all_of(typed.words,
                             [&](std::string_view word) { return has_word(known, word); });
}

// How similar two keys are: the smaller, the more; kDifferent: not at all.
constexpr int kDifferent = 100;

int rank(const KeyParts& typed, const KeyParts& known) {
  const int elsewhere = typed.section == known.section ? 0 : 1;
  if (typed.name == known.name) return elsewhere;
  const bool is_near = is_misspelt(typed.name, known.name);
  if (elsewhere == 0 && is_near) return 2;
  if (elsewhere == 0 && typed.name.size() > 1 && typed.name == initials_of(known)) return 3;
  if (has_all_words(known, typed)) return 4 + elsewhere;
  if (is_near) return 6;
  return kDifferent;
}

}  // namespace

std::string suggest_key(std::string_view key, std::span<const std::string> known) {
  const KeyParts typed(key);
  const std::string* best = nullptr;
  std::pair<int, std::size_t> least{kDifferent, 0};
  for (const std::string& candidate : known) {
    const KeyParts parts(candidate);
    const int similarity = rank(typed, parts);
    if (similarity > least.first || similarity == kDifferent) continue;
    const std::pair found{similarity, edit_distance(typed.name, parts.name)};
    if (best != nullptr && found >= least) continue;
    best = &candidate;
    least = found;
  }
  if (best != nullptr) return fmt::format("did you mean '{}'?", *best);
  return suggest_name(key, known);
}

}  // namespace mochi
