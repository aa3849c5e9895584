#include "base/nearest.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <numeric>
#include <vector>

namespace mochi {
namespace {

constexpr std::size_t kMaxListed = 24;

bool is_letter(char letter) { return std::isalnum(static_cast<unsigned char>(letter)) != 0; }

// "--num-steps" → num, steps.
std::vector<std::string_view> words_of(std::string_view name) {
  std::vector<std::string_view> words;
  for (;;) {
    const char* const begin = std::find_if(name.begin(), name.end(), is_letter);
    const char* const end = std::find_if_not(begin, name.end(), is_letter);
    if (begin == end) return words;
    words.emplace_back(begin, end);
    name = {end, name.end()};
  }
}

// "step" and "steps", "output" and "out".
bool are_alike(std::string_view left, std::string_view right) {
  constexpr std::size_t kMinLetters = 3;
  if (left.size() > right.size()) std::swap(left, right);
  return left == right || (left.size() >= kMinLetters && right.starts_with(left));
}

bool contains_words(std::string_view name, std::string_view part) {
  const std::vector<std::string_view> words = words_of(name);
  const std::vector<std::string_view> parts = words_of(part);
  return !parts.empty() && std::ranges::all_of(parts, [&words](std::string_view wanted) {
    return std::ranges::any_of(words, [wanted](auto word) { return are_alike(word, wanted); });
  });
}

// The known name that `name` was probably meant to be; empty if there is none.
std::string_view likely_name(std::string_view name, std::span<const std::string> known) {
  constexpr std::size_t kLettersPerSlip = 7;
  const std::string_view nearest = nearest_name(name, known);
  const std::size_t distance = edit_distance(name, nearest);
  if (distance <= 1 || distance <= name.size() / kLettersPerSlip) return nearest;
  std::vector<std::string> related;
  std::ranges::copy_if(known, std::back_inserter(related), [name](const std::string& candidate) {
    return contains_words(candidate, name) || contains_words(name, candidate);
  });
  if (!related.empty()) return *std::ranges::find(known, nearest_name(name, related));
  return 2 * distance <= std::max(name.size(), nearest.size()) ? nearest : "";
}

}  // namespace

std::size_t edit_distance(std::string_view left, std::string_view right) {
  // row[j]: distance of left's first i bytes to right's first j.
  std::vector<std::size_t> row(right.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= left.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= right.size(); ++j) {
      const std::size_t above = row[j];
      const std::size_t replaced = diagonal + (left[i - 1] == right[j - 1] ? 0 : 1);
      row[j] = std::min({above + 1, row[j - 1] + 1, replaced});
      diagonal = above;
    }
  }
  return row.back();
}

std::string_view nearest_name(std::string_view name, std::span<const std::string> known) {
  std::string_view nearest;
  std::size_t least = 0;
  for (const std::string& candidate : known) {
    const std::size_t distance = edit_distance(name, candidate);
    if (nearest.empty() || distance < least) {
      nearest = candidate;
      least = distance;
    }
  }
  return nearest;
}

std::string suggest_name(std::string_view name, std::span<const std::string> known) {
  if (known.empty()) return "none is known";
  const std::string_view likely = likely_name(name, known);
  if (!likely.empty()) return fmt::format("did you mean '{}'?", likely);
  const auto listed = known.first(std::min(known.size(), kMaxListed));
  return fmt::format("known are: {}{}", fmt::join(listed, ", "),
                     listed.size() < known.size() ? ", ..." : "");
}

}  // namespace mochi
