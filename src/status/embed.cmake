# Writes OUTPUT, a C source with the texts of CSS and JS and with the Content-Security-Policy that allows exactly these
# two: cmake -DCSS=FILE -DJS=FILE -DOUTPUT=FILE -P embed.cmake

set(base64_digits ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/)

# Sets the variable to the SHA-256 of the file in base64. 32 bytes make 10 groups of three bytes, two bytes and one "=".
function(hash_base64 file variable)
  file(SHA256 ${file} hex)
  set(text "")
  foreach(group RANGE 10)
    math(EXPR at "${group} * 6")
    string(SUBSTRING "${hex}00" ${at} 6 digits)
    foreach(shift 18 12 6 0)
      math(EXPR index "(0x${digits} >> ${shift}) & 63")
      string(SUBSTRING ${base64_digits} ${index} 1 digit)
      string(APPEND text ${digit})
    endforeach()
  endforeach()
  string(SUBSTRING ${text} 0 43 text)
  set(${variable} "${text}=" PARENT_SCOPE)
endfunction()

# Sets the variable to the definition of a constant array with the bytes of the file and a NUL.
function(define_array name file variable)
  file(READ ${file} hex HEX)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
  string(REGEX REPLACE "((0x..,)(0x..,)(0x..,)(0x..,)(0x..,)(0x..,)(0x..,)(0x..,))" "\\1\n" bytes "${bytes}")
  set(${variable} "const char ${name}[] = {\n${bytes}0};\n" PARENT_SCOPE)
endfunction()

hash_base64(${CSS} css_hash)
hash_base64(${JS} js_hash)
define_array(status_css ${CSS} css)
define_array(status_js ${JS} js)
set(policy "default-src 'none'; style-src 'sha256-${css_hash}'; script-src 'sha256-${js_hash}'; connect-src 'self'; \
img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
file(WRITE ${OUTPUT} "// Made by embed.cmake.\n#include \"assets.h\"\n\n#include \"imcallbackd/status/page.h\"\n\n"
  "${css}${js}const char page_security_policy[] = \"${policy}\";\n")
