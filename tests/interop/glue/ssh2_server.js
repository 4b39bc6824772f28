// Serve a directory with npm's ssh2: the package decodes the protocol and answers, the handlers below carry out.
//
// Usage: node ssh2_server.js DIRECTORY HOST-KEY USER   (the password is in PASSWORD; NODE_PATH leads to the package)
'use strict';

const fs = require('fs');
const path = require('path');
const { Server, utils } = require('ssh2');

const { OPEN_MODE, STATUS_CODE } = utils.sftp;
const [root, hostKey, user] = process.argv.slice(2);
const REASONS = { ENOENT: STATUS_CODE.NO_SUCH_FILE, EACCES: STATUS_CODE.PERMISSION_DENIED, EPERM: STATUS_CODE.PERMISSION_DENIED };

const place = (name) => path.join(root, path.posix.join('/', name));

function attributes(found) {
  const { mode, uid, gid, size } = found;
  return { mode, uid, gid, size, atime: Math.floor(found.atimeMs / 1000), mtime: Math.floor(found.mtimeMs / 1000) };
}

function mode(flags) {
  const { READ, WRITE, CREAT, TRUNC, EXCL, APPEND } = OPEN_MODE;
  const { constants } = fs;
  let value = flags & READ ? (flags & WRITE ? constants.O_RDWR : constants.O_RDONLY) : constants.O_WRONLY;
  if (flags & CREAT) value |= constants.O_CREAT;
  if (flags & TRUNC) value |= constants.O_TRUNC;
  if (flags & EXCL) value |= constants.O_EXCL;
  if (flags & APPEND) value |= constants.O_APPEND;
  return value;
}

function serve(sftp) {
  const handles = new Map();
  let next = 0;

  const open = (id, value) => {
    const handle = Buffer.alloc(4);
    handle.writeUInt32BE(next);
    handles.set(next++, value);
    sftp.handle(id, handle);
  };
  const opened = (handle) => {
    const value = handles.get(handle.readUInt32BE(0));
    if (value === undefined) throw Object.assign(new Error('no such handle'), { code: 'EBADF' });
    return value;
  };
  const answer = (handler) => (id, ...given) => {
    try {
      if (handler(id, ...given) !== false) sftp.status(id, STATUS_CODE.OK);
    } catch (error) {
      sftp.status(id, REASONS[error.code] ?? STATUS_CODE.FAILURE, error.message);
    }
  };
  const set = (attrs, chmod, utimes, truncate) => {
    if (attrs.size !== undefined) truncate(attrs.size);
    if (attrs.mode !== undefined) chmod(attrs.mode & 0o7777);
    if (attrs.mtime !== undefined) utimes(attrs.atime, attrs.mtime);
  };

  const handlers = {
    OPEN(id, name, flags, attrs) {
      open(id, { file: fs.openSync(place(name), mode(flags), attrs.mode === undefined ? 0o666 : attrs.mode & 0o7777) });
      return false;
    },
    READ(id, handle, offset, length) {
      const data = Buffer.alloc(length);
      const count = fs.readSync(opened(handle).file, data, 0, length, offset);
      if (count) sftp.data(id, data.subarray(0, count));
      else sftp.status(id, STATUS_CODE.EOF);
      return false;
    },
    WRITE(id, handle, offset, data) {
      for (let done = 0; done < data.length;) {
        done += fs.writeSync(opened(handle).file, data, done, data.length - done, offset + done);
      }
    },
    CLOSE(id, handle) {
      const { file } = opened(handle);
      handles.delete(handle.readUInt32BE(0));
      if (file !== undefined) fs.closeSync(file);
    },
    FSTAT(id, handle) {
      sftp.attrs(id, attributes(fs.fstatSync(opened(handle).file)));
      return false;
    },
    FSETSTAT(id, handle, attrs) {
      const { file } = opened(handle);
      set(attrs, (value) => fs.fchmodSync(file, value), (...times) => fs.futimesSync(file, ...times), (size) => fs.ftruncateSync(file, size));
    },
    STAT(id, name) {
      sftp.attrs(id, attributes(fs.statSync(place(name))));
      return false;
    },
    LSTAT(id, name) {
      sftp.attrs(id, attributes(fs.lstatSync(place(name))));
      return false;
    },
    SETSTAT(id, name, attrs) {
      const there = place(name);
      set(attrs, (value) => fs.chmodSync(there, value), (...times) => fs.utimesSync(there, ...times), (size) => fs.truncateSync(there, size));
    },
    OPENDIR(id, name) {
      open(id, { names: fs.readdirSync(place(name)), directory: place(name) });
      return false;
    },
    READDIR(id, handle) {
      const folder = opened(handle);
      const part = folder.names.splice(0, 100);
      if (!part.length) {
        sftp.status(id, STATUS_CODE.EOF);
        return false;
      }
      sftp.name(id, part.map((filename) => {
        const attrs = attributes(fs.lstatSync(path.join(folder.directory, filename)));
        return { filename, longname: filename, attrs };
      }));
      return false;
    },
    REALPATH(id, name) {
      sftp.name(id, [{ filename: path.posix.join('/', name), longname: '', attrs: {} }]);
      return false;
    },
    REMOVE(id, name) { fs.unlinkSync(place(name)); },
    MKDIR(id, name) { fs.mkdirSync(place(name)); },
    RMDIR(id, name) { fs.rmdirSync(place(name)); },
    RENAME(id, from, to) {
      if (fs.existsSync(place(to))) throw new Error('file exists');
      fs.renameSync(place(from), place(to));
    },
    READLINK(id, name) {
      sftp.name(id, [{ filename: fs.readlinkSync(place(name)), longname: '', attrs: {} }]);
      return false;
    },
    SYMLINK(id, to, from) { fs.symlinkSync(to, place(from)); },
  };
  for (const [name, handler] of Object.entries(handlers)) sftp.on(name, answer(handler));
}

const server = new Server({ hostKeys: [fs.readFileSync(hostKey)] }, (client) => {
  client.on('authentication', (login) => {
    if (login.method !== 'password') login.reject(['password']);
    else if (login.username === user && login.password === process.env.PASSWORD) login.accept();
    else login.reject();
  });
  client.on('error', () => {});
  client.on('session', (accept) => accept().on('sftp', (accept) => serve(accept())));
});
server.listen(0, '127.0.0.1', () => console.log(`PORT ${server.address().port}`));
