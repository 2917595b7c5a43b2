import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.UUID;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicLongArray;

public class Counter {
    public static void main(String[] arguments) throws Exception {
        String token = UUID.randomUUID().toString();
        AtomicLong count = new AtomicLong();
        AtomicLongArray own = new AtomicLongArray(4);
        for (int i = 0; i < own.length(); i++) {
            int mine = i;
            new Thread(() -> {
                while (true) {
                    own.incrementAndGet(mine);
                    try { Thread.sleep(5); } catch (InterruptedException interrupted) { return; }
                }
            }).start();
        }
        HttpServer server = HttpServer.create(new InetSocketAddress(Integer.parseInt(arguments[0])), 50);
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.createContext("/", exchange -> {
            if (exchange.getRequestMethod().equals("POST")) count.incrementAndGet();
            StringBuilder text = new StringBuilder(token + " " + count);
            for (int i = 0; i < own.length(); i++) text.append(' ').append(own.get(i));
            byte[] body = text.toString().getBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
    }
}
