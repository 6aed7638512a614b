# openssl: every digest, cipher and MAC that it lists, key derivation, primes, and signatures whose value is fixed by the key.
seq 40000 >data
head -c 4099 data >odd
echo "== digests"
for digest in $(openssl list -digest-algorithms | sed -n 's/ *{.*//; s/^ *//; /=>/d; s/ @.*//p' | tr ' ' '\n' | grep -v '[{}@,]' | sort -u) md5 sha1 sha224 sha256 sha384 \
    sha512 sha512-224 sha512-256 sha3-224 sha3-256 sha3-384 sha3-512 shake128 shake256 blake2b512 blake2s256 ripemd160 sm3 md5-sha1; do
    for file in data odd /dev/null; do openssl dgst -"$digest" -hex $file 2>/dev/null; done
done
for digest in md5 sha1 sha256 sha512 sha3-256; do openssl dgst -$digest -hmac secret data; done
echo "== ciphers"
key=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f iv=f0e0d0c0b0a090807060504030201000
for cipher in $(openssl enc -list | grep -o -- '-[^ ]*' | sort -u); do
    openssl enc "$cipher" -K $key -iv $iv -in odd -out coded >/dev/null 2>&1 || { echo "$cipher not here"; continue; }
    echo "$cipher $(sha256sum <coded)"
    openssl enc -d "$cipher" -K $key -iv $iv -in coded -out plain 2>/dev/null; cmp plain odd && echo same
    openssl enc "$cipher" -K $key -iv $iv -in data 2>/dev/null | sha256sum
done
openssl enc -aes-256-cbc -pbkdf2 -iter 2000 -S 0011223344556677 -k calque -in data | sha256sum
echo "== macs and derivation"
openssl mac -macopt hexkey:$key -macopt digest:SHA512 -in data HMAC
openssl mac -macopt hexkey:$key -in data Poly1305
openssl mac -macopt hexkey:$key -in data KMAC256
openssl mac -macopt hexkey:${key%????????????????????????????????} -in data SipHash
openssl mac -macopt hexkey:$key -macopt cipher:AES-256-CBC -in data CMAC
openssl mac -macopt hexkey:$key -macopt cipher:AES-256-GCM -macopt hexiv:001122334455667788990011 -in data GMAC
openssl mac -macopt hexkey:$key -in data BLAKE2BMAC
openssl kdf -keylen 40 -kdfopt pass:calque -kdfopt salt:na -kdfopt n:1024 -kdfopt r:8 -kdfopt p:2 SCRYPT
openssl kdf -keylen 40 -kdfopt pass:calque -kdfopt salt:natriumchlorid -kdfopt digest:SHA512 -kdfopt iter:3000 PBKDF2
openssl kdf -keylen 40 -kdfopt key:calque -kdfopt salt:na -kdfopt digest:SHA256 -kdfopt info:x HKDF
for way in -1 -5 -6 -apr1; do openssl passwd $way -salt calquesalt secret; done
echo "== primes"
for n in 170141183460469231731687303715884105727 1000000007 561 340282366920938463463374607431768211457; do openssl prime $n; done
openssl prime -generate -bits 96 >/dev/null && echo generated
echo "== fixed keys: RSA of PKCS #1 v1.5, Ed25519, Ed448, X25519; what chance decides is only checked"
python3 - >rsa.conf <<'END'
import hashlib
def prime(seed):
    n = int.from_bytes(b"".join(hashlib.sha512(b"%s%d" % (seed, i)).digest() for i in range(2)), "big") | 3 << 1022 | 1
    while not all(pow(a, n - 1, n) == 1 for a in (2, 3, 5, 7, 11, 13)) or n % 65537 == 1:
        n += 2
    return n
p, q = prime(b"calque"), prime(b"transfer")
d = pow(65537, -1, (p - 1) * (q - 1))
names = "version modulus e d p q dp dq u".split()
values = 0, p * q, 65537, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p)
print("asn1=SEQUENCE:key\n[key]")
for name, value in zip(names, values):
    print(f"{name}=INTEGER:{value:#x}")
END
openssl asn1parse -genconf rsa.conf -noout -out rsa.der
openssl rsa -inform DER -in rsa.der -check -out rsa.pem 2>&1 | head -n 1
openssl rsa -in rsa.pem -pubout -out rsa.pub 2>/dev/null
for digest in md5 sha1 sha256 sha384 sha512 sha3-256; do
    openssl dgst -$digest -sign rsa.pem -out signature data; sha256sum <signature
    openssl dgst -$digest -verify rsa.pub -signature signature data
done
openssl dgst -sha256 -sign rsa.pem -sigopt rsa_padding_mode:pss -out signature data
openssl dgst -sha256 -verify rsa.pub -sigopt rsa_padding_mode:pss -signature signature data
head -c 64 data >short
openssl pkeyutl -encrypt -pubin -inkey rsa.pub -in short -out coded && openssl pkeyutl -decrypt -inkey rsa.pem -in coded | cmp - short && echo same
for kind in ED25519:302e020100300506032b657004220420:32 ED448:3047020100300506032b6571043b0439:57; do
    name=${kind%%:*} rest=${kind#*:}
    { perl -e 'print pack "H*", shift' "${rest%:*}"; head -c "${rest#*:}" data; } >$name.der
    openssl pkey -inform DER -in $name.der -out $name.pem && openssl pkey -in $name.pem -pubout -out $name.pub && cat $name.pub
    openssl pkeyutl -sign -inkey $name.pem -rawin -in odd -out signature; sha256sum <signature
    openssl pkeyutl -verify -pubin -inkey $name.pub -rawin -in odd -sigfile signature
done
for curve in P-224 P-256 P-384 P-521 secp256k1 brainpoolP256r1 sect283k1 SM2; do
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:$curve -out ec.pem 2>/dev/null && openssl pkey -in ec.pem -pubout -out ec.pub
    case $curve in SM2) digest=sm3 ;; *) digest=sha256 ;; esac
    openssl dgst -$digest -sign ec.pem -out signature data && openssl dgst -$digest -verify ec.pub -signature signature data
done
for n in 1 2; do openssl genpkey -algorithm X25519 -out x$n.pem; openssl pkey -in x$n.pem -pubout -out x$n.pub; done
openssl pkeyutl -derive -inkey x1.pem -peerkey x2.pub -out one; openssl pkeyutl -derive -inkey x2.pem -peerkey x1.pub -out two; cmp one two && echo same
openssl genrsa 1024 2>/dev/null | openssl rsa -check -noout 2>&1
openssl req -x509 -key rsa.pem -subj /CN=calque -days 1 -set_serial 1 -out cert.pem && openssl verify -CAfile cert.pem cert.pem
echo "== bignums"
for curve in prime256v1 secp384r1; do openssl ecparam -name $curve -param_enc explicit -outform DER | sha256sum; done
