# The page and the description of the API become a part of the program.
file(GLOB page_files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/server/page/*)
list(APPEND page_files ${PROJECT_SOURCE_DIR}/src/server/openapi.json)
set(embedded ${PROJECT_BINARY_DIR}/server/embedded_files.cpp)
add_custom_command(OUTPUT ${embedded}
  COMMAND ${CMAKE_COMMAND} -D OUTPUT=${embedded} "-DFILES=${page_files}" -P ${PROJECT_SOURCE_DIR}/cmake/embed.cmake
  DEPENDS ${page_files} ${PROJECT_SOURCE_DIR}/cmake/embed.cmake VERBATIM)
target_sources(mochi_server PRIVATE ${embedded})
# Boost.Beast takes longer to compile than all the rest of the server.
set_source_files_properties(${PROJECT_SOURCE_DIR}/src/server/http_server.cpp ${embedded}
  PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
