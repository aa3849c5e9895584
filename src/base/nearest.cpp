#include "base/nearest.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <utility>
#include <vector>

namespace mochi {
namespace {

constexpr std::size_t kMaxListed = 24;

bool is_letter(char letter) { return std::isalnum(static_cast<unsigned char>(letter)) != 0; }

using Words = std::vector<std::string_view>;

// "--num-steps" → num, steps.
Words words_of(std::string_view name) {
  Words words;
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

bool contains_words(const Words& words, const Words& parts) {
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
  const Words words = words_of(name);
  std::vector<std::string> related;
  std::ranges::copy_if(known, std::back_inserter(related), [&words](const std::string& candidate) {
    const Words known_words = words_of(candidate);
    return contains_words(known_words, words) || contains_words(words, known_words);
  });
  if (!related.empty()) return *std::ranges::find(known, nearest_name(name, related));
  return 2 * distance <= std::max(name.size(), nearest.size()) ? nearest : "";
}

void skip_common_ends(std::string_view& left, std::string_view& right) {
  const auto begin =
      static_cast<std::size_t>(std::ranges::mismatch(left, right).in1 - left.begin());
  left.remove_prefix(begin);
  right.remove_prefix(begin);
  while (!left.empty() && !right.empty() && left.back() == right.back()) {
    left.remove_suffix(1);
    right.remove_suffix(1);
  }
}

// The table of distances of all beginnings, a column for each letter of `right`, by Myers' method
// ("A fast bit-vector algorithm for approximate string matching based on dynamic programming",
// 1999): a bit for each row says whether the distance is one more, or one less, than in the row
// above.
constexpr std::size_t kMaxColumn = 64;
std::size_t column_distance(std::string_view left, std::string_view right) {
  std::array<std::uint64_t, 256> rows_of{};  // the rows of each letter in `left`
  for (std::size_t i = 0; i < left.size(); ++i) {
    rows_of[static_cast<unsigned char>(left[i])] |= std::uint64_t{1} << i;
  }
  const std::uint64_t last_row = std::uint64_t{1} << (left.size() - 1);
  std::uint64_t more = ~std::uint64_t{0};
  std::uint64_t less = 0;
  std::size_t distance = left.size();
  for (const char letter : right) {
    const std::uint64_t equal = rows_of[static_cast<unsigned char>(letter)];
    const std::uint64_t matched = (((equal & more) + more) ^ more) | equal;
    std::uint64_t more_than_left = less | ~(matched | more);
    std::uint64_t less_than_left = more & matched;
    if ((more_than_left & last_row) != 0) ++distance;
    if ((less_than_left & last_row) != 0) --distance;
    more_than_left = more_than_left << 1U | 1U;
    less_than_left <<= 1U;
    const std::uint64_t reached = equal | less;
    more = less_than_left | ~(reached | more_than_left);
    less = more_than_left & reached;
  }
  return distance;
}

}  // namespace

std::size_t edit_distance(std::string_view left, std::string_view right) {
  skip_common_ends(left, right);
  if (left.size() > right.size()) std::swap(left, right);
  if (left.empty() || left.size() > kMaxColumn) return right.size();
  return column_distance(left, right);
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
