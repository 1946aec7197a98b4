# Removes what `cmake --install` has installed: -DMANIFEST=.../install_manifest.txt
if(NOT EXISTS "${MANIFEST}")
  message(FATAL_ERROR "There is no ${MANIFEST}: nothing was installed from here")
endif()
file(STRINGS "${MANIFEST}" _files)
foreach(_file IN LISTS _files)
  message(STATUS "Removing $ENV{DESTDIR}${_file}")
  file(REMOVE "$ENV{DESTDIR}${_file}")
endforeach()
