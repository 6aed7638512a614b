export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root PS1='root@calque:\w# '
cd
