// Validation of text that comes from users.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace mochi {

// Returns the index of the first byte that is not part of valid UTF-8 (overlong forms, surrogates
// and values above U+10FFFF are invalid); nothing if the whole text is valid.
std::optional<std::size_t> find_invalid_utf8(std::string_view text);

}  // namespace mochi
