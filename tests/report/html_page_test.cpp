#include "report/html_page.h"

#include <gtest/gtest.h>

#include "base/temp_folder.h"
#include "report/markup.h"

namespace mochi::report {
namespace {

TEST(Markup, EscapesAndMendsText) {
  EXPECT_EQ(escape_markup("a<b>&\"c\""), "a&lt;b&gt;&amp;&quot;c&quot;");
  EXPECT_EQ(escape_markup("größer 日本\n"), "größer 日本\n");
  EXPECT_EQ(escape_markup(std::string_view("a\0b\x1b", 4)), "a\uFFFDb\uFFFD");
  EXPECT_EQ(escape_markup("a\xff"), "a\uFFFD");
}

TEST(HtmlPage, HoldsWhatWasAddedInOrder) {
  HtmlPage page("a & b");
  page.add_heading("Head <1>");
  page.add_text("text & more");
  page.add_table({"key", "value"}, {{"<k>", "1"}, {"m", "2"}});
  page.add_lead("lead & more");
  page.add_pairs("name", "what", {{"<n>.x", "v"}});
  page.add_figure({"drawn & named", {{"<line>", "#123456"}}, "<path/>\n", 10});
  page.add_videos({{"dense & slow", "d.mp4", 64, 48}});
  page.add_image_row("frames", {"foo", "bar"});
  const std::string html = page.finish();
  std::size_t at = 0;
  for (const char* part : {"<!DOCTYPE html>",
                           "<title>a &amp; b</title>",
                           "<h1>a &amp; b</h1>",
                           "<h2>Head &lt;1&gt;</h2>",
                           "<p>text &amp; more</p>",
                           "<th>key</th>",
                           "<td>&lt;k&gt;</td>",
                           "<td>2</td>",
                           "<p class=\"lead\">lead &amp; more</p>",
                           "class=\"pairs\"",
                           "<td>&lt;n&gt;.<wbr/>x</td><td>v</td>",
                           "drawn &amp; named",
                           "&lt;line&gt;",
                           "<path/>",
                           "<video controls=",
                           "width=\"64\" height=\"48\"",
                           "aria-label=\"dense &amp; slow\"",
                           "src=\"d.mp4\"",
                           "<a href=\"d.mp4\">",
                           "</video>",
                           "<a href=\"d.mp4\">",
                           "frames",
                           "src=\"data:image/png;base64,Zm9v\"",
                           "src=\"data:image/png;base64,YmFy\"",
                           "</html>"}) {
    const std::size_t found = html.find(part, at);
    ASSERT_NE(found, std::string::npos) << part;
    at = found;
  }
  EXPECT_EQ(html.find("<script"), std::string::npos);
}

}  // namespace
}  // namespace mochi::report
