# `bundle`: a folder that runs on other machines, with what they may lack beside the program. From
# the preset portable, since others' processors differ.

# The program finds its libraries beside it. As RPATH, not RUNPATH: that holds for the libraries of
# libraries, too, and libdnnl wants libOpenCL.
set_target_properties(mochi PROPERTIES INSTALL_RPATH "$ORIGIN/../lib")
target_link_options(mochi PRIVATE LINKER:--disable-new-dtags)

# Carried: everything but glibc (2.34 or newer is wanted) and its loader, which belong to a machine.
# That is libstdc++ and libgcc_s, too: an older distribution's lack symbols of this compiler, and a
# static copy beside the other libraries' shared one would be two. NVIDIA's driver comes with the
# GPU; cuBLASLt (0.4 GB) is taken from the machine's CUDA, and found when it is first needed.
set(MOCHI_BUNDLE ${CMAKE_BINARY_DIR}/bundle)
set(MOCHI_CARRIED RUNTIME_DEPENDENCIES
  PRE_EXCLUDE_REGEXES "^ld-linux" "^lib(c|m|dl|rt|pthread|resolv)\\.so" "^libcuda\\.so" "^libcublas")
install(TARGETS mochi ${MOCHI_CARRIED}
        RUNTIME DESTINATION bin COMPONENT bundle EXCLUDE_FROM_ALL
        LIBRARY DESTINATION lib COMPONENT bundle EXCLUDE_FROM_ALL)
install(FILES LICENSE README.md chipmunk-config.yml docs/libraries.md DESTINATION .
        COMPONENT bundle EXCLUDE_FROM_ALL)
install(DIRECTORY docs DESTINATION . COMPONENT bundle EXCLUDE_FROM_ALL)
install(DIRECTORY models/micro DESTINATION models COMPONENT bundle EXCLUDE_FROM_ALL)
install(CODE "execute_process(COMMAND ${PROJECT_SOURCE_DIR}/tools/copy_licences.sh
  \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}\" COMMAND_ERROR_IS_FATAL ANY)"
        COMPONENT bundle EXCLUDE_FROM_ALL)
add_custom_target(bundle
  COMMAND ${CMAKE_COMMAND} -E rm -rf ${MOCHI_BUNDLE}
  COMMAND ${CMAKE_COMMAND} --install ${CMAKE_BINARY_DIR} --prefix ${MOCHI_BUNDLE} --component bundle
          --strip
  DEPENDS mochi VERBATIM)

# `gpu_tests`: the bundle, and in tests/ what runs on a GPU with its data and the script that does it.
function(mochi_gpu_tests)
  set(programs ${ARGN})
  set_target_properties(${programs} PROPERTIES INSTALL_RPATH "$ORIGIN/../lib")
  set(source ${PROJECT_SOURCE_DIR})
  install(PROGRAMS ${source}/tools/run_gpu_tests.sh ${source}/tests/gpu/dit_error.py
          DESTINATION tests COMPONENT gpu_tests EXCLUDE_FROM_ALL)
  install(FILES ${source}/training/micro/dit.py DESTINATION tests RENAME reference_dit.py
          COMPONENT gpu_tests EXCLUDE_FROM_ALL)
  install(TARGETS ${programs} RUNTIME DESTINATION tests COMPONENT gpu_tests EXCLUDE_FROM_ALL)
  install(DIRECTORY ${source}/tests/golden DESTINATION tests COMPONENT gpu_tests EXCLUDE_FROM_ALL
          FILES_MATCHING PATTERN "*.safetensors" PATTERN formats EXCLUDE PATTERN "lora*" EXCLUDE)
  add_custom_target(gpu_tests
    COMMAND ${CMAKE_COMMAND} --install ${CMAKE_BINARY_DIR} --prefix ${MOCHI_BUNDLE}
            --component gpu_tests --strip
    VERBATIM)
  add_dependencies(gpu_tests bundle ${programs})
endfunction()
