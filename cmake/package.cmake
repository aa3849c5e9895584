# `cpack` in a build folder makes a Debian package of what `cmake --install` installs, and an archive
# of the bundle, which needs no installation. From the preset portable, since others' processors
# differ.
set(CPACK_GENERATOR "DEB;TGZ")
set(CPACK_PACKAGE_NAME mochi)
set(CPACK_PACKAGE_VENDOR "mochi.cpp")
set(CPACK_PACKAGE_CONTACT "mochi.cpp developers")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Text to video with Mochi 1, on CPUs and NVIDIA GPUs")
set(CPACK_PACKAGE_FILE_NAME mochi-${PROJECT_VERSION}-linux-x86_64)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION video)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "ca-certificates, ffmpeg")
set(CPACK_PROJECT_CONFIG_FILE ${PROJECT_SOURCE_DIR}/cmake/package_options.cmake)
include(CPack)
