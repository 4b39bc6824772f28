import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.List;
import org.apache.sshd.common.file.virtualfs.VirtualFileSystemFactory;
import org.apache.sshd.common.keyprovider.FileKeyPairProvider;
import org.apache.sshd.server.SshServer;
import org.apache.sshd.sftp.server.SftpSubsystemFactory;

/**
 * Serve a directory with Apache MINA SSHD, as its documentation sets a server up.
 *
 * <p>Usage: java Mina DIRECTORY HOST-KEY USER (the password is in PASSWORD)
 */
public final class Mina {
  private Mina() {}

  public static void main(String[] arguments) throws Exception {
    Path root = Paths.get(arguments[0]);
    String user = arguments[2];
    String password = System.getenv("PASSWORD");
    SshServer server = SshServer.setUpDefaultServer();
    server.setHost("127.0.0.1");
    server.setPort(0);
    server.setKeyPairProvider(new FileKeyPairProvider(Paths.get(arguments[1])));
    server.setPasswordAuthenticator(
        (who, given, session) -> who.equals(user) && given.equals(password));
    server.setFileSystemFactory(new VirtualFileSystemFactory(root));
    server.setSubsystemFactories(List.of(new SftpSubsystemFactory()));
    server.start();
    System.out.println("PORT " + server.getPort());
    Thread.sleep(Long.MAX_VALUE);
  }
}
