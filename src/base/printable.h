// Text from files and users, made safe to print.
#pragma once

#include <string>
#include <string_view>

namespace mochi {

// Control characters and bytes that are not UTF-8 are written as \xNN: the text stays one line and
// cannot steer a terminal.
std::string printable(std::string_view text);

}  // namespace mochi
