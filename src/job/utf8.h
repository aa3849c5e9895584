// Whether text is UTF-8, which JSON can hold.
#pragma once

#include <string_view>

namespace mochi::job {

bool is_utf8(std::string_view text);

}  // namespace mochi::job
