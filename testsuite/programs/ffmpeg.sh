# ffmpeg: pictures and sound of its own making through scalers, filters, encoders and back, in one thread. Its routines are
# chosen by CPUID; the encoders are told to be exact. What is compared is the coded file and every decoded frame. libopus is not
# among them: it codes by RCPPS and RSQRTPS, for which the manual gives a bound and no value.
ff() { ffmpeg -nostdin -hide_banner -loglevel error -threads 1 -filter_threads 1 -filter_complex_threads 1 "$@"; }
exact="-threads 1 -fflags +bitexact -flags +bitexact -map_metadata -1"
ff -f lavfi -i testsrc2=size=320x180:rate=10:duration=2 -pix_fmt yuv420p $exact -f rawvideo video.yuv
ff -f lavfi -i "aevalsrc=0.4*sin(2*PI*(300+200*t)*t)+0.1*sin(5*PI*1000*t)|0.3*cos(2*PI*443*t):s=48000:d=3" -c:a pcm_s16le $exact -f wav sound.wav
sha256sum video.yuv sound.wav
video="-f rawvideo -pix_fmt yuv420p -s 320x180 -r 10 -i video.yuv"
coded() { # coded NAME FORMAT INPUT FLAG...
    name=$1 format=$2 input=$3
    shift 3
    # shellcheck disable=SC2086
    ff $input "$@" $exact -f $format "coded.$name" && echo "== $name $(sha256sum <"coded.$name")" && ff -i "coded.$name" $exact -f framemd5 - | grep -v '^#' | md5sum
}
coded mpeg1 mpegts "$video" -r 25 -c:v mpeg1video -qscale:v 3
coded mpeg2 mpegts "$video" -c:v mpeg2video -b:v 800k -bf 2
coded mpeg4 avi "$video" -c:v mpeg4 -qscale:v 4 -mbd rd -trellis 1
coded h263 avi "-f lavfi -i testsrc2=size=352x288:rate=10:duration=1" -c:v h263p -qscale:v 5
coded mjpeg avi "$video" -c:v mjpeg -pix_fmt yuvj420p -qscale:v 3
coded ffv1 avi "$video" -c:v ffv1 -level 3 -slices 4
coded huffyuv avi "$video" -c:v ffvhuff
coded prores mov "$video" -c:v prores_ks -profile:v 2
coded dnxhd mov "-f lavfi -i testsrc2=size=1280x720:rate=25:duration=0.12" -c:v dnxhd -b:v 90M -pix_fmt yuv422p
coded png avi "-f lavfi -i mandelbrot=size=160x120:rate=5:end_pts=9" -c:v png -t 1
coded gif gif "$video" -c:v gif
coded theora ogg "$video" -c:v libtheora -qscale:v 6
coded h264 matroska "$video" -c:v libx264 -preset medium -x264-params threads=1:lookahead-threads=1:sliced-threads=0
coded h264-10 matroska "$video" -c:v libx264 -preset faster -pix_fmt yuv420p10le -x264-params threads=1:lookahead-threads=1
coded hevc matroska "$video" -t 0.6 -c:v libx265 -preset faster -x265-params log-level=none:pools=none:frame-threads=1:no-wpp=1
coded vp8 webm "$video" -c:v libvpx -b:v 400k -cpu-used 4
coded vp9 webm "$video" -t 1 -c:v libvpx-vp9 -b:v 400k -cpu-used 5 -row-mt 0
for codec in flac alac wavpack tta ac3 aac mp2 libmp3lame libvorbis g722 adpcm_ima_wav adpcm_ms wmav2 pcm_alaw pcm_f32le; do
    case $codec in
    g722) more="-ar 16000 -ac 1" ;;
    *) more= ;;
    esac
    # shellcheck disable=SC2086
    coded $codec matroska "-i sound.wav" -c:a $codec $more
done
echo "== scaling and filters"
for filter in scale=200:150:flags=bicubic+accurate_rnd scale=640:360:flags=lanczos scale=111:77:flags=bilinear+bitexact scale=320:180:out_color_matrix=bt709:flags=area,format=rgb24 \
    format=rgb48le format=yuv444p16le,gblur=sigma=2 eq=contrast=1.3:saturation=.7,hue=h=40 unsharp=7:7:1.5 boxblur=3 convolution="0 -1 0 -1 5 -1 0 -1 0" hqdn3d yadif \
    deshake noise=alls=20:all_seed=9 rotate=0.3 perspective=x0=20:y0=10 lut3d=interp=tetrahedral,format=gray edgedetect sobel=scale=2 median=3 nlmeans=s=3:p=3:r=5 \
    colorspace=all=bt709:iall=bt601-6-625 curves=vintage minterpolate=fps=15:mi_mode=blend tinterlace framerate=fps=15 ssim psnr fftfilt=dc_Y=0:weight_Y=1 bwdif atadenoise dctdnoiz=4 overlay pp=hb/vb/dr; do
    case $filter in
    ssim | psnr | overlay) ff $video $video -t 0.5 -lavfi $filter=eof_action=endall $exact -f framemd5 - 2>&1 | grep -v '^#' | md5sum ;;
    *) echo "$filter $(ff $video -t 0.5 -vf "$filter" $exact -f framemd5 - 2>&1 | grep -v '^#' | md5sum)" ;;
    esac
done
for filter in aresample=44100 aresample=22050:filter_size=64:cutoff=.9 aresample=96000,aformat=flt volume=.7 loudnorm "equalizer=f=1000:width_type=h:width=200:g=-10" atempo=1.3 aecho acompressor \
    dynaudnorm afftdn "firequalizer=gain_entry='entry(1000,-10)'" aphaser flanger chorus=0.5:0.9:50:0.4:0.25:2 stereotools compand rubberband=tempo=1.2 anequalizer="c0 f=200 w=100 g=-10 t=1" superequalizer asubboost; do
    echo "$filter $(ff -i sound.wav -t 1 -af "$filter" $exact -f framemd5 - 2>&1 | grep -v '^#' | md5sum)"
done
for picture in showspectrum=s=200x150 showcqt=s=192x108 showwaves=s=200x100 avectorscope=s=100x100; do
    echo "$picture $(ff -i sound.wav -t 0.5 -filter_complex "$picture" $exact -f framemd5 - 2>&1 | grep -v '^#' | md5sum)"
done
