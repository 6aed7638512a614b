#!/bin/sh
# What the guest of arm-guest.sh does, and the same files on this processor under chroot. Its output may depend on nothing
# but the instructions' results.
export PATH=/usr/bin:/bin LC_ALL=C PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 OPENSSL_CONF=/dev/null
echo "@@python3"
python3 /check/check.py
echo "@@openssl"
for d in md5 sha1 sha256 sha512 sha3-256 blake2s256; do openssl dgst -$d /check/data | sed 's/.*= //'; done
for c in aes-128-cbc aes-256-ctr aes-256-ofb chacha20 camellia-128-cbc; do
  openssl enc -$c -K 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f -iv 0f0e0d0c0b0a09080706050403020100 \
    -in /check/data 2>/dev/null | openssl dgst -sha256 | sed 's/.*= //'
done
openssl dgst -sha256 -sign /check/key.pem /check/data | openssl dgst -sha256 | sed 's/.*= //'
openssl dgst -sha256 -sign /check/key.pem /check/data >/tmp/signature
openssl dgst -sha256 -prverify /check/key.pem -signature /tmp/signature /check/data
openssl prime -hex FFFFFFFFFFFFFFC5
echo "@@float"
/check/float
echo "@@end"
