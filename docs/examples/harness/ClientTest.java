// Test a mail client with nothing but a JDK: `java ClientTest.java`
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

public class ClientTest {
    /** A mailgate of this test alone. It ends with its input, which is closed when this process ends. */
    static class Harness implements AutoCloseable {
        private final Process process;
        private final String about;     // a line of JSON: ports, ca_file, api, token ...
        private final HttpClient http = HttpClient.newHttpClient();

        Harness(String... options) throws IOException {
            List<String> command = new ArrayList<>(List.of("mailgate", "harness"));
            command.addAll(List.of(options));
            process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
            about = new BufferedReader(new InputStreamReader(process.getInputStream())).readLine();
        }

        /** Ask the API; return what it answers. */
        String ask(String method, String path, String body) throws IOException, InterruptedException {
            var request = HttpRequest.newBuilder(URI.create(field(about, "api") + path))
                .header("Authorization", "Bearer " + field(about, "token"))
                .header("Content-Type", "application/json")
                .method(method, body == null ? BodyPublishers.noBody() : BodyPublishers.ofString(body))
                .build();
            var response = http.send(request, BodyHandlers.ofString());
            check(response.statusCode() < 300, method + " " + path + ": " + response.body());
            return response.body();
        }

        int port(String protocol) {
            return Integer.parseInt(field(about, protocol));
        }

        @Override
        public void close() throws IOException, InterruptedException {
            process.getOutputStream().close();
            check(process.waitFor(10, TimeUnit.SECONDS), "the harness ended");
        }
    }

    /** The client that is tested: fetch all mail, and delete what was fetched. */
    static List<String> fetchMail(String host, int port, String user, String password) throws IOException {
        List<String> fetched = new ArrayList<>();
        try (Socket socket = new Socket(host, port)) {
            socket.setSoTimeout(10_000);
            var in = new BufferedReader(new InputStreamReader(socket.getInputStream(), StandardCharsets.UTF_8));
            in.readLine();      // the greeting
            say(socket, in, "USER " + user);
            say(socket, in, "PASS " + password);
            int count = Integer.parseInt(say(socket, in, "STAT").split(" ")[1]);
            for (int number = 1; number <= count; number++) {
                if (say(socket, in, "RETR " + number).startsWith("+OK")) {
                    List<String> lines = new ArrayList<>();
                    for (String line = in.readLine(); !line.equals("."); line = in.readLine()) {
                        lines.add(line.startsWith(".") ? line.substring(1) : line);
                    }
                    fetched.add(String.join("\n", lines));
                } else if (System.getenv("BROKEN_CLIENT") == null) {
                    continue;       // try again the next time
                }
                say(socket, in, "DELE " + number);
            }
            say(socket, in, "QUIT");
        }
        return fetched;
    }

    static String say(Socket socket, BufferedReader in, String command) throws IOException {
        socket.getOutputStream().write((command + "\r\n").getBytes(StandardCharsets.UTF_8));
        return in.readLine();
    }

    /** Return a text or number of JSON by its name: a JDK reads no JSON, and this is all that is needed here. */
    static String field(String json, String name) {
        Matcher found = Pattern.compile("\"" + name + "\": \"?([^\",}]*)").matcher(json);
        check(found.find(), name + " in " + json);
        return found.group(1);
    }

    static void check(boolean holds, String words) {
        if (!holds) {
            throw new AssertionError(words);
        }
    }

    public static void main(String[] arguments) throws Exception {
        try (Harness harness = new Harness("--account", "mrose:secret")) {
            List<String> ids = new ArrayList<>();
            for (String subject : List.of("one", "two")) {
                ids.add(field(harness.ask("POST", "/maildrops/mrose/messages",
                    "{\"content\": \"Subject: " + subject + "\\n\\nhello\\n\"}"), "unique_id"));
            }
            harness.ask("POST", "/faults", "{\"do\": \"error\", \"command\": \"RETR 1\", \"code\": \"SYS/TEMP\"}");

            List<String> fetched = fetchMail("127.0.0.1", harness.port("pop3"), "mrose", "secret");

            check(fetched.equals(List.of("Subject: two\n\nhello")), "fetched: " + fetched);
            String session = harness.ask("GET", "/sessions/latest?wait=ended", null);
            check(field(session, "end").equals("QUIT"), "the session ended in order");
            check(session.contains("\"deleted\": [\"" + ids.get(1) + "\"]"),
                "a message that cannot be fetched stays: " + session);
        }
        System.out.println("ok");
    }
}
