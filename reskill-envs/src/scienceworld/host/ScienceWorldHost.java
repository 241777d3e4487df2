import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;

/**
 * Hosts several ScienceWorld simulators in one Java machine. The simulator keeps its world in static fields, so each
 * gets a class loader of its own, and in it a py4j gateway whose entry point is the simulator.
 *
 * <p>Requests come on standard input, a line each: {@code open ID} answers {@code ID port NUMBER} or
 * {@code ID error REASON}, {@code ping ID} answers {@code ID pong}. At the end of standard input the machine exits, so it
 * cannot outlive the program that started it.
 *
 * <p>Usage: {@code java -cp FOLDER ScienceWorldHost scienceworld.jar}
 */
public final class ScienceWorldHost implements Runnable {
    private static final String SIMULATOR = "scienceworld.runtime.pythonapi.PythonInterface";
    private static PrintStream answers;
    private static URL jar;

    private final String id;

    private ScienceWorldHost(String id) {
        this.id = id;
    }

    public static void main(String[] arguments) throws Exception {
        answers = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        // The simulator prints every step.
        System.setOut(new PrintStream(OutputStream.nullOutputStream()));
        jar = new File(arguments[0]).toURI().toURL();
        var requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = requests.readLine(); line != null; line = requests.readLine()) {
            String[] words = line.split(" ");
            if (words[0].equals("ping")) {
                answer(words[1] + " pong");
            } else if (words[0].equals("open")) {
                var opening = new Thread(new ScienceWorldHost(words[1]));
                opening.setDaemon(true);
                opening.start();
            }
        }
        Runtime.getRuntime().halt(0);
    }

    /** Opens a simulator behind a gateway on a free port of the loopback interface. */
    @Override
    public void run() {
        try {
            var loader = new URLClassLoader(new URL[] {jar}, ClassLoader.getPlatformClassLoader());
            Thread.currentThread().setContextClassLoader(loader);
            Object simulator = loader.loadClass(SIMULATOR).getConstructor().newInstance();
            Class<?> gatewayClass = loader.loadClass("py4j.GatewayServer");
            Object gateway = gatewayClass.getConstructor(Object.class, int.class).newInstance(simulator, 0);
            gatewayClass.getMethod("start").invoke(gateway);
            answer(id + " port " + gatewayClass.getMethod("getListeningPort").invoke(gateway));
        } catch (Throwable reason) {
            answer(id + " error " + reason.toString().replace('\n', ' '));
        }
    }

    private static synchronized void answer(String line) {
        answers.println(line);
    }
}
