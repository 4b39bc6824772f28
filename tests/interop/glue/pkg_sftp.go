// Serve a directory with Go's pkg/sftp: its server for disks, or its request server with the handlers below.
//
// Usage: pkg_sftp -root DIRECTORY -host-key FILE -user NAME -mode server|request   (the password is in PASSWORD)
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

func main() {
	root := flag.String("root", "", "where relative paths start")
	hostKey := flag.String("host-key", "", "private key of the server")
	user := flag.String("user", "", "who may log in")
	mode := flag.String("mode", "server", "server, or request")
	flag.Parse()
	password := os.Getenv("PASSWORD")

	configuration := &ssh.ServerConfig{
		PasswordCallback: func(who ssh.ConnMetadata, given []byte) (*ssh.Permissions, error) {
			if who.User() == *user && string(given) == password {
				return nil, nil
			}
			return nil, fmt.Errorf("refused")
		},
	}
	pem, err := os.ReadFile(*hostKey)
	stopAt(err)
	key, err := ssh.ParsePrivateKey(pem)
	stopAt(err)
	configuration.AddHostKey(key)
	stopAt(os.Chdir(*root))

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	stopAt(err)
	fmt.Printf("PORT %d\n", listener.Addr().(*net.TCPAddr).Port)
	for {
		connection, err := listener.Accept()
		stopAt(err)
		go serve(connection, configuration, *mode, *root)
	}
}

func stopAt(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func serve(connection net.Conn, configuration *ssh.ServerConfig, mode string, root string) {
	defer connection.Close()
	_, channels, requests, err := ssh.NewServerConn(connection, configuration)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for offered := range channels {
		if offered.ChannelType() != "session" {
			offered.Reject(ssh.UnknownChannelType, "sessions only")
			continue
		}
		channel, requests, err := offered.Accept()
		if err != nil {
			return
		}
		go session(channel, requests, mode, root)
	}
}

func session(channel ssh.Channel, requests <-chan *ssh.Request, mode string, root string) {
	for request := range requests {
		wanted := request.Type == "subsystem" && string(request.Payload[4:]) == "sftp"
		request.Reply(wanted, nil)
		if wanted {
			go subsystem(channel, mode, root)
		}
	}
}

func subsystem(channel ssh.Channel, mode string, root string) {
	defer channel.Close()
	if mode == "request" {
		disk := disk{root}
		handlers := sftp.Handlers{FileGet: disk, FilePut: disk, FileCmd: disk, FileList: disk}
		server := sftp.NewRequestServer(channel, handlers)
		server.Serve()
		server.Close()
		return
	}
	server, err := sftp.NewServer(channel)
	if err != nil {
		return
	}
	server.Serve()
	server.Close()
}

// disk carries out requests below a root, as products that use the request server do.
type disk struct{ root string }

func (d disk) place(path string) string { return filepath.Join(d.root, filepath.Clean("/"+path)) }

func (d disk) Fileread(r *sftp.Request) (io.ReaderAt, error) { return os.Open(d.place(r.Filepath)) }

func (d disk) Filewrite(r *sftp.Request) (io.WriterAt, error) { return d.open(r, os.O_WRONLY) }

func (d disk) OpenFile(r *sftp.Request) (sftp.WriterAtReaderAt, error) { return d.open(r, os.O_RDWR) }

func (d disk) open(r *sftp.Request, flags int) (*os.File, error) {
	asked := r.Pflags()
	if asked.Creat {
		flags |= os.O_CREATE
	}
	if asked.Trunc {
		flags |= os.O_TRUNC
	}
	if asked.Excl {
		flags |= os.O_EXCL
	}
	return os.OpenFile(d.place(r.Filepath), flags, 0o666)
}

func (d disk) Filecmd(r *sftp.Request) error {
	place := d.place(r.Filepath)
	switch r.Method {
	case "Setstat":
		return d.setstat(r, place)
	case "Rename":
		if _, err := os.Lstat(d.place(r.Target)); err == nil {
			return os.ErrExist
		}
		return os.Rename(place, d.place(r.Target))
	case "Rmdir", "Remove":
		information, err := os.Lstat(place)
		if err != nil {
			return err
		}
		if information.IsDir() != (r.Method == "Rmdir") {
			return sftp.ErrSSHFxFailure
		}
		return os.Remove(place)
	case "Mkdir":
		return os.Mkdir(place, 0o777)
	case "Symlink":
		return os.Symlink(r.Filepath, d.place(r.Target))
	}
	return sftp.ErrSSHFxOpUnsupported
}

func (d disk) PosixRename(r *sftp.Request) error {
	return os.Rename(d.place(r.Filepath), d.place(r.Target))
}

func (d disk) setstat(r *sftp.Request, place string) error {
	flags, attributes := r.AttrFlags(), r.Attributes()
	if flags.Size {
		if err := os.Truncate(place, int64(attributes.Size)); err != nil {
			return err
		}
	}
	if flags.Permissions {
		if err := os.Chmod(place, attributes.FileMode().Perm()); err != nil {
			return err
		}
	}
	if flags.Acmodtime {
		return os.Chtimes(place, time.Unix(int64(attributes.Atime), 0), time.Unix(int64(attributes.Mtime), 0))
	}
	return nil
}

type entries []os.FileInfo

func (e entries) ListAt(into []os.FileInfo, offset int64) (int, error) {
	if offset >= int64(len(e)) {
		return 0, io.EOF
	}
	count := copy(into, e[offset:])
	if count < len(into) {
		return count, io.EOF
	}
	return count, nil
}

func (d disk) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	place := d.place(r.Filepath)
	switch r.Method {
	case "List":
		found, err := os.ReadDir(place)
		if err != nil {
			return nil, err
		}
		all := entries{}
		for _, entry := range found {
			if information, err := entry.Info(); err == nil {
				all = append(all, information)
			}
		}
		return all, nil
	case "Stat":
		information, err := os.Stat(place)
		return entries{information}, err
	}
	return nil, sftp.ErrSSHFxOpUnsupported
}

func (d disk) Lstat(r *sftp.Request) (sftp.ListerAt, error) {
	information, err := os.Lstat(d.place(r.Filepath))
	return entries{information}, err
}
