#include "server/multipart.h"

#include <gtest/gtest.h>

#include "base/temp_folder.h"
#include "server/http_error.h"

namespace mochi::server {
namespace {

constexpr const char* kFormType = "multipart/form-data; boundary=b";

// Line breaks as clients send them.
std::string wire(std::string_view text) {
  std::string bytes;
  for (const char letter : text) bytes += letter == '\n' ? "\r\n" : std::string(1, letter);
  return bytes;
}

std::string form_error(const std::string& body, const std::string& type = kFormType) {
  return message_of<HttpError>([&] { parse_multipart(body, type); });
}

std::vector<FormField> parse_part(const std::string& part) {
  return parse_multipart(wire("--b\n" + part + "\n--b--\n"), kFormType);
}

std::string part_error(const std::string& part) {
  return form_error(wire("--b\n" + part + "\n--b--\n"));
}

TEST(MediaType, IsInLowerCaseWithoutParameters) {
  EXPECT_EQ(media_type_of("Multipart/Form-Data; boundary=b"), "multipart/form-data");
  EXPECT_EQ(media_type_of(" application/json ;charset=utf-8"), "application/json");
  EXPECT_EQ(media_type_of("application/json;"), "application/json");
  for (const char* type : {"", "json", "a/b/c", "/json", "json/", "a b/c", "a/b c"}) {
    EXPECT_EQ(media_type_of(type), "") << type;
  }
}

// The following bodies are what the clients sent.
TEST(Multipart, ReadsFormsOfCurl) {
  const std::vector<FormField> fields =
      parse_multipart(wire(R"(--------------------------da764026b51340e1
Content-Disposition: form-data; name="prompt"

A red "ball", café
--------------------------da764026b51340e1
Content-Disposition: form-data; name="lora"

a:0.5
--------------------------da764026b51340e1
Content-Disposition: form-data; name="lora"

b
--------------------------da764026b51340e1
Content-Disposition: form-data; name="input_reference"; filename="pic.png"
Content-Type: image/png

hi

--------------------------da764026b51340e1--
)"),
                      "multipart/form-data; boundary=------------------------da764026b51340e1");
  ASSERT_EQ(fields.size(), 4U);
  EXPECT_EQ(fields[0].name, "prompt");
  EXPECT_EQ(fields[0].value, "A red \"ball\", café");
  EXPECT_EQ(fields[0].file_name, std::nullopt);
  EXPECT_EQ(fields[0].content_type, "");
  EXPECT_EQ(fields[1].value, "a:0.5");
  EXPECT_EQ(fields[2].name, "lora");
  EXPECT_EQ(fields[3].value, "hi\r\n");
  EXPECT_EQ(fields[3].file_name, "pic.png");
  EXPECT_EQ(fields[3].content_type, "image/png");
}

TEST(Multipart, ReadsFormsOfBrowsers) {
  const std::vector<FormField> fields =
      parse_multipart(wire(R"(------WebKitFormBoundarycGU166X05XSdFqcX
Content-Disposition: form-data; name="prompt"

line one
A red "ball", café
------WebKitFormBoundarycGU166X05XSdFqcX
Content-Disposition: form-data; name="na%22me\x"

v
------WebKitFormBoundarycGU166X05XSdFqcX
Content-Disposition: form-data; name="input_reference"; filename="C:\p%22icé.png"
Content-Type: image/png

hi
------WebKitFormBoundarycGU166X05XSdFqcX--
)"),
                      "multipart/form-data; boundary=----WebKitFormBoundarycGU166X05XSdFqcX");
  ASSERT_EQ(fields.size(), 3U);
  EXPECT_EQ(fields[0].value, "line one\r\nA red \"ball\", café");
  EXPECT_EQ(fields[1].name, "na%22me\\x");
  EXPECT_EQ(fields[2].file_name, "C:\\p%22icé.png");
}

TEST(Multipart, ReadsFormsOfHttpxAndOpenAi) {
  const std::vector<FormField> fields =
      parse_multipart(wire(R"(--26a3bafa28bbde42aa2d3d6fbbbffbb9
Content-Disposition: form-data; name="prompt"

A red ball
--26a3bafa28bbde42aa2d3d6fbbbffbb9
Content-Disposition: form-data; name="seconds"

4
--26a3bafa28bbde42aa2d3d6fbbbffbb9
Content-Disposition: form-data; name="input_reference"; filename="pi%22c.png"
Content-Type: image/png

hi
--26a3bafa28bbde42aa2d3d6fbbbffbb9--
)"),
                      "multipart/form-data; boundary=26a3bafa28bbde42aa2d3d6fbbbffbb9");
  ASSERT_EQ(fields.size(), 3U);
  EXPECT_EQ(fields[1].name, "seconds");
  EXPECT_EQ(fields[1].value, "4");
  EXPECT_EQ(fields[2].file_name, "pi%22c.png");
}

TEST(Multipart, ReadsFormsOfPythonsEmailAndNode) {
  std::vector<FormField> fields =
      parse_multipart(wire(R"(--===============1581622605166797122==
Content-Type: text/plain; charset="us-ascii"
MIME-Version: 1.0
Content-Transfer-Encoding: 7bit
Content-Disposition: form-data; name="prompt"

A red ball
--===============1581622605166797122==--
)"),
                      "multipart/form-data; boundary=\"===============1581622605166797122==\"");
  ASSERT_EQ(fields.size(), 1U);
  EXPECT_EQ(fields[0].value, "A red ball");
  EXPECT_EQ(fields[0].content_type, "text/plain; charset=\"us-ascii\"");
  fields = parse_multipart(wire(R"(------formdata-undici-062302118750
Content-Disposition: form-data; name="prompt"

a
b
------formdata-undici-062302118750--)"),
                           "multipart/form-data; boundary=----formdata-undici-062302118750");
  ASSERT_EQ(fields.size(), 1U);
  EXPECT_EQ(fields[0].value, "a\r\nb");
}

TEST(Multipart, SkipsPreambleAndEpilogue) {
  const std::string part = "content-disposition:Form-Data;name=x\n\n1";
  const std::vector<FormField> fields = parse_multipart(
      wire("preamble --b\n--b \t\n" + part + "\n--b\n" + part + "\n--b--  \nepilogue\n--b"),
      "multipart/form-data; a=1; Boundary=b");
  ASSERT_EQ(fields.size(), 2U);
  EXPECT_EQ(fields[0].name, "x");
  EXPECT_EQ(fields[1].value, "1");
}

TEST(Multipart, FormsAndValuesMayBeEmpty) {
  EXPECT_TRUE(parse_multipart("--b--", kFormType).empty());
  EXPECT_EQ(parse_part("Content-Disposition: form-data; name=\"\"; filename=\"\"\n\n")[0].value,
            "");
}

TEST(Multipart, ValuesHaveAnyBytes) {
  const std::string value("\0\r\n--\r\n-b\xff\r", 12);
  const std::string head = wire("--b\nContent-Disposition: form-data; name=x\n\n");
  EXPECT_EQ(parse_multipart(head + value + "\r\n--b--", kFormType)[0].value, value);
}

TEST(Multipart, QuotedNamesHaveEscapes) {
  const auto name_of = [](const std::string& name) {
    return parse_part("Content-Disposition: form-data; name=" + name + "\n\n1")[0].name;
  };
  EXPECT_EQ(name_of(R"("a\"b\\c\d; e")"), R"(a"b\c\d; e)");
  EXPECT_EQ(name_of("\"a\" ; other=x"), "a");
  EXPECT_EQ(name_of("a-b_c ; other=x;"), "a-b_c");
  EXPECT_EQ(
      parse_part("Content-Disposition: form-data; name=x; filename*=utf-8''a\n\n1")[0].file_name,
      "utf-8''a");
}

TEST(Multipart, RefusesDamagedBoundaries) {
  expect_contains(form_error("", "multipart/form-data"), "wanted a boundary in Content-Type");
  expect_contains(form_error("", "multipart/form-data; boundary"), "wanted a boundary");
  expect_contains(form_error("", "multipart/form-data; boundary=a; boundary=b"),
                  "wanted a boundary");
  expect_contains(form_error("", "multipart/form-data; boundary=\"\""), "wanted a boundary");
  expect_contains(form_error("", "multipart/form-data; boundary=\"a"), "wanted a boundary");
  expect_contains(form_error("", "multipart/form-data; boundary=\"a \""), "of 1 to 70 printable");
  expect_contains(form_error("", "multipart/form-data; boundary=" + std::string(71, 'a')),
                  "of 1 to 70");
  const std::string part = "Content-Disposition: form-data; name=x\n\n1\n";
  expect_contains(form_error(""), "wanted a line '--b--' at the end, found none");
  expect_contains(form_error(wire("--c--")), "'--b--'");
  expect_contains(form_error(wire("--b\n" + part)), "'--b--'");
  expect_contains(form_error(wire("--b\n" + part + "--b")), "wanted CR LF or '--'");
  expect_contains(form_error(wire("--b\n" + part + "--b-")), "wanted CR LF or '--'");
  expect_contains(form_error(wire("--bc\n" + part + "--b--")), "wanted CR LF or '--'");
  expect_contains(form_error("--b\n" + part + "--b--"), "wanted CR LF or '--'");
  expect_contains(form_error("--b\r\n" + part + "--b--"), "'--b--'");  // no CR before it
}

TEST(Multipart, RefusesDamagedParts) {
  expect_contains(part_error("Content-Disposition: form-data; name=x"), "and an empty line");
  expect_contains(part_error("\n1"), "wanted Content-Disposition: form-data; name=\"NAME\"");
  expect_contains(part_error("Content-Disposition: form-data\n\n1"), "name=\"NAME\"");
  expect_contains(part_error("Content-Disposition: attachment; name=x\n\n1"), "name=\"NAME\"");
  expect_contains(part_error("Content-Disposition: form-data; name=\"x\n\n1"), "name=\"NAME\"");
  expect_contains(part_error("Content-Disposition: form-data; name=a; name=b\n\n1"), "NAME");
  expect_contains(part_error("Content-Disposition: form-data; name=x\n folded\n\n1"),
                  "wanted a header 'NAME: VALUE' in a part, found ' folded'");
  expect_contains(part_error("Content-Disposition : form-data; name=x\n\n1"), "wanted a header");
  expect_contains(part_error(std::string("X: \0\n\n1", 8)), "wanted a header");
  expect_contains(part_error("X: a\rb\n\n1"), "wanted a header");
  const std::string disposition = "Content-Disposition: form-data; name=x\n";
  expect_contains(part_error(disposition + disposition + "\n1"),
                  "two headers 'content-disposition'");
  expect_contains(part_error(disposition + "Content-Transfer-Encoding: base64\n\nMQ=="),
                  "wanted Content-Transfer-Encoding 7bit, 8bit or binary, found 'base64'");
}

TEST(Multipart, PartsAndHeadersAreLimited) {
  const std::string part = "--b\nContent-Disposition: form-data; name=x\n\n1\n";
  std::string body;
  for (int i = 0; i < 64; ++i) body += part;
  EXPECT_EQ(parse_multipart(wire(body + "--b--"), kFormType).size(), 64U);
  expect_contains(form_error(wire(body + part + "--b--")), "wanted at most 64 parts, found more");
  const std::string disposition = "Content-Disposition: form-data; name=x\nX: ";
  EXPECT_EQ(parse_part(disposition + std::string(8000, 'a') + "\n\n1").size(), 1U);
  expect_contains(part_error(disposition + std::string(8192, 'a') + "\n\n1"), "at most 8192 bytes");
}

}  // namespace
}  // namespace mochi::server
