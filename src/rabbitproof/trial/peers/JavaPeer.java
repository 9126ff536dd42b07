import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.ConfirmListener;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.DefaultConsumer;
import com.rabbitmq.client.Envelope;
import com.rabbitmq.client.Method;
import com.rabbitmq.client.ReturnListener;
import com.rabbitmq.client.ShutdownListener;
import com.rabbitmq.client.ShutdownSignalException;
import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.net.URISyntaxException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.time.Instant;
import java.util.BitSet;
import java.util.Date;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;

/**
 * RabbitMQ's official Java client, as a program: the work that RabbitMQ's own PerfTest does, with
 * our message. Flags, output and exit codes are those of all peers; see {@code __init__.py}.
 *
 * <p>Holds one connection with one channel, as PerfTest does for each producer and consumer.
 * Refuses to hold: reconnecting. A connection that breaks ends the program.
 *
 * <p>Rules: the client's own defaults, unless another setting was measured to be better. The
 * blocking sockets are kept: with {@code useNio()} a message costs a fifth to a half more CPU.
 * The job is done once unmeasured, with messages of no consequence, so that the measured one
 * finds its code compiled; {@code --warm-up} says with how many messages.
 */
public final class JavaPeer {
    /**
     * Messages of the unmeasured job, by default. Publishing 50,000 costs 16 to 19 microseconds
     * of CPU a message when it begins cold, half of it or more for compiling; 11 to 14 after
     * 20,000; 7 to 14 after 50,000; 7 to 11 after 100,000 or 200,000. Consuming costs 18 to 25,
     * 13 to 14, 8 to 11 and 6 to 11.
     */
    private static final String WARM_UP = "50000";

    private static final int WRONG_USAGE = 2;
    private static final int OVERDUE = 3;

    private static final OperatingSystemMXBean SYSTEM =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

    private final String exchange;
    private final String routingKey;
    private final String queue;
    private final int count;
    private final int window;
    private final int prefetch;
    private final int warmUp;
    private final String idPrefix;
    private final String bodyTail;

    private JavaPeer(Map<String, String> flags) {
        exchange = flags.get("--exchange");
        routingKey = flags.get("--routing-key");
        queue = flags.get("--queue");
        count = positive(flags, "--count");
        window = positive(flags, "--window");
        prefetch = positive(flags, "--prefetch");
        flags.putIfAbsent("--warm-up", WARM_UP);
        warmUp = positive(flags, "--warm-up");
        String run = flags.get("--run");
        if (!run.matches("[0-9a-f]{12}")) {
            throw new IllegalArgumentException("--run takes twelve hexadecimal digits");
        }
        idPrefix = run.substring(0, 8) + "-" + run.substring(8) + "-8001-8000-";
        bodyTail = ",\"text\":" + quoted(flags.get("--text")) + ",\"sent_by\":\"bench\"}";
    }

    /** The same work elsewhere, to warm up for it. */
    private JavaPeer(JavaPeer like, String ownQueue) {
        exchange = "";  // leads to every queue by its name
        routingKey = ownQueue;
        queue = ownQueue;
        count = like.warmUp;
        window = like.window;
        prefetch = like.prefetch;
        warmUp = 0;
        idPrefix = like.idPrefix;
        bodyTail = like.bodyTail;
    }

    public static void main(String[] arguments) {
        String role = null;
        String url = null;
        String ready = null;
        JavaPeer peer = null;
        try {
            Map<String, String> flags = parse(arguments);
            role = flags.get("role");
            ready = flags.get("--ready");
            url = flags.getOrDefault("--url", System.getenv("RABBITMQ_URL"));
            if (url == null) {
                throw new IllegalArgumentException("no address: --url or RABBITMQ_URL names one");
            }
            peer = new JavaPeer(flags);
            endAfter(Double.parseDouble(flags.getOrDefault("--deadline", "300")));
        } catch (IllegalArgumentException error) {
            end(WRONG_USAGE, "Wrong usage: " + error.getMessage() + "; see the flags of all peers.");
        }
        try {
            ConnectionFactory factory = new ConnectionFactory();
            factory.setUri(url);
            // A connection that broke has to be seen as such, not mended behind our back.
            factory.setAutomaticRecoveryEnabled(false);
            Connection connection = factory.newConnection();
            if ("publish".equals(role)) {
                peer.warmUpPublishing(connection);
            } else {
                peer.warmUpConsuming(connection);
            }
            awaitStart(ready);
            Done done = "publish".equals(role) ? peer.publish(connection, true)
                    : peer.consume(connection);
            connection.close();
            System.out.println(String.format(Locale.ROOT,
                    "{\"messages\": %d, \"unique\": %d, \"seconds\": %.6f, \"cpu_seconds\": %.6f}",
                    peer.count, done.unique, done.nanoseconds / 1e9, done.cpuNanoseconds / 1e9));
            System.out.flush();
            System.exit(0);
        } catch (URISyntaxException error) {
            // Its message quotes the address, with the password.
            end(WRONG_USAGE, "Wrong usage: the address is none; write it like"
                    + " amqp://user:password@host:5672/vhost.");
        } catch (Exception error) {
            end(1, "Could not " + role + " " + peer.count + " messages (" + reason(error)
                    + "); check the address, and that exchange and queue exist.");
        }
    }

    // --- publishing ---

    private void warmUpPublishing(Connection connection) throws Exception {
        // There is no such queue: the broker confirms and drops them.
        new JavaPeer(this, UUID.randomUUID().toString()).publish(connection, false);
    }

    private Done publish(Connection connection, boolean mandatory) throws Exception {
        Channel channel = connection.createChannel();
        channel.confirmSelect();
        Outcomes outcomes = new Outcomes(count, window);
        channel.addConfirmListener(outcomes);
        channel.addReturnListener(outcomes);
        channel.addShutdownListener(outcomes);
        Done done = new Done();
        for (int n = 1; n <= count; n++) {
            outcomes.free.acquire();
            if (outcomes.failure != null) {
                break;
            }
            Instant now = Instant.now();
            Map<String, Object> headers = new HashMap<>(8);
            headers.put("producer_id", "bench");
            headers.put("host", "localhost");
            headers.put("checksum", "00000000");
            headers.put("sent_ns", now.getEpochSecond() * 1_000_000_000L + now.getNano());
            channel.basicPublish(exchange, routingKey, mandatory,
                    new AMQP.BasicProperties.Builder()
                            .contentType("application/json")
                            .headers(headers)
                            .deliveryMode(2)
                            .messageId(idPrefix + twelveDigits(n))
                            .timestamp(new Date(now.getEpochSecond() * 1000))
                            .appId("rabbitmq.producer")
                            .build(),
                    ("{\"n\":" + n + bodyTail).getBytes(StandardCharsets.UTF_8));
        }
        outcomes.end.await();
        done.stop(count);
        if (outcomes.failure != null) {
            throw new IOException(outcomes.failure);
        }
        channel.close();
        return done;
    }

    /**
     * What became of the publishes. Confirms may come in any order, one by one or many at once;
     * only the connection's own thread brings them, so a set of bits and a number are enough,
     * where PerfTest has a ConcurrentSkipListMap.
     */
    private static final class Outcomes
            implements ConfirmListener, ReturnListener, ShutdownListener {
        /** How many more publishes may be open. */
        final Semaphore free;
        /** Comes when everything is confirmed or something failed. */
        final CountDownLatch end = new CountDownLatch(1);
        /** Why it did not work, or null. */
        volatile String failure;

        private final BitSet confirmed;
        private final int count;
        private int total;
        /** Every tag up to this one is confirmed. */
        private int low;

        Outcomes(int count, int window) {
            this.count = count;
            free = new Semaphore(window);
            confirmed = new BitSet(count + 2);
        }

        @Override
        public void handleAck(long deliveryTag, boolean multiple) {
            int tag = (int) deliveryTag;
            int before = total;
            if (multiple) {
                for (int open = confirmed.nextClearBit(low + 1); open <= tag;
                        open = confirmed.nextClearBit(open + 1)) {
                    confirmed.set(open);
                    total++;
                }
                low = Math.max(low, tag);
            } else if (!confirmed.get(tag)) {
                confirmed.set(tag);
                total++;
            }
            free.release(total - before);
            if (total == count) {
                end.countDown();
            }
        }

        @Override
        public void handleNack(long deliveryTag, boolean multiple) {
            fail("the broker refused a message");
        }

        @Override
        public void handleReturn(int code, String text, String exchange, String routingKey,
                AMQP.BasicProperties properties, byte[] body) {
            fail("the broker returned a message: " + text);
        }

        @Override
        public void shutdownCompleted(ShutdownSignalException cause) {
            if (!cause.isInitiatedByApplication()) {
                fail(reason(cause));
            }
        }

        private void fail(String why) {
            if (failure == null) {
                failure = why;
            }
            free.release();  // the publisher may be waiting; it looks at the failure next
            end.countDown();
        }
    }

    // --- consuming ---

    private void warmUpConsuming(Connection connection) throws Exception {
        Channel channel = connection.createChannel();
        String own = channel.queueDeclare().getQueue();  // exclusive and transient
        JavaPeer peer = new JavaPeer(this, own);
        peer.publish(connection, false);
        peer.consume(connection);
        channel.queueDelete(own);
        channel.close();
    }

    private Done consume(Connection connection) throws Exception {
        Channel channel = connection.createChannel();
        channel.basicQos(prefetch);
        Receipts receipts = new Receipts(channel, count, Math.max(1, prefetch / 4));
        Done done = new Done();
        channel.basicConsume(queue, false, receipts);
        receipts.end.await();
        done.stop(receipts.seen.size());
        if (receipts.failure != null) {
            throw new IOException(receipts.failure);
        }
        channel.close();
        return done;
    }

    /** Records every message id, then acknowledges. Only one thread at a time delivers. */
    private static final class Receipts extends DefaultConsumer {
        /** Comes when everything is acknowledged or something failed. */
        final CountDownLatch end = new CountDownLatch(1);
        /** Why it did not work, or null. */
        volatile String failure;

        final Set<String> seen;
        private final int count;
        private final int ackEvery;
        private int received;

        Receipts(Channel channel, int count, int ackEvery) {
            super(channel);
            this.count = count;
            this.ackEvery = ackEvery;
            seen = new HashSet<>(count + count / 3 + 1);  // never has to grow
        }

        @Override
        public void handleDelivery(String consumerTag, Envelope envelope,
                AMQP.BasicProperties properties, byte[] body) throws IOException {
            if (received == count) {
                return;
            }
            seen.add(properties.getMessageId());
            received++;
            if (received % ackEvery == 0 || received == count) {
                getChannel().basicAck(envelope.getDeliveryTag(), true);
                if (received == count) {
                    end.countDown();
                }
            }
        }

        @Override
        public void handleCancel(String consumerTag) {
            fail("the broker ended the consumer after " + received + " messages");
        }

        @Override
        public void handleShutdownSignal(String consumerTag, ShutdownSignalException cause) {
            fail(reason(cause));
        }

        private void fail(String why) {
            if (failure == null && received < count) {
                failure = why;
            }
            end.countDown();
        }
    }

    // --- clocks ---

    /**
     * Makes the file that says that it is warm, and begins when there is something to read, so
     * that everybody's queues are equally fresh. Without a file it begins at once.
     */
    private static void awaitStart(String ready) throws IOException {
        if (ready != null) {
            Files.createFile(Paths.get(ready));
            System.in.read();
        }
    }

    /** Time that passed and processor time that was used, from its making to {@code stop}. */
    private static final class Done {
        private final long cpuBegan = SYSTEM.getProcessCpuTime();
        private final long began = System.nanoTime();
        long nanoseconds;
        long cpuNanoseconds;
        int unique;

        void stop(int unique) {
            nanoseconds = System.nanoTime() - began;
            cpuNanoseconds = SYSTEM.getProcessCpuTime() - cpuBegan;
            this.unique = unique;
        }
    }

    /** Ends the process after so many seconds, whatever it is waiting for by then. */
    private static void endAfter(double seconds) {
        Thread thread = new Thread(() -> {
            try {
                Thread.sleep((long) (seconds * 1000));
            } catch (InterruptedException stopped) {
                return;
            }
            end(OVERDUE, String.format(Locale.ROOT, "Not done within %s s; check that the broker"
                    + " takes and delivers messages, or give it longer with --deadline.", seconds));
        });
        thread.setDaemon(true);
        thread.start();
    }

    // --- flags and words ---

    private static Map<String, String> parse(String[] arguments) {
        Set<String> required = new HashSet<>(Set.of("--exchange", "--routing-key", "--queue",
                "--text", "--count", "--window", "--prefetch", "--run"));
        Set<String> known = new HashSet<>(Set.of("--url", "--deadline", "--warm-up", "--ready"));
        known.addAll(required);
        Map<String, String> flags = new HashMap<>();
        if (arguments.length == 0 || !Set.of("publish", "consume").contains(arguments[0])) {
            throw new IllegalArgumentException("the first word is publish or consume");
        }
        flags.put("role", arguments[0]);
        for (int i = 1; i < arguments.length; i += 2) {
            if (!known.contains(arguments[i]) || i + 1 == arguments.length) {
                throw new IllegalArgumentException("what is " + arguments[i] + "?");
            }
            flags.put(arguments[i], arguments[i + 1]);
            required.remove(arguments[i]);
        }
        if (!required.isEmpty()) {
            throw new IllegalArgumentException("missing " + String.join(", ", required));
        }
        if (flags.get("--text").indexOf('\uFFFD') >= 0) {
            throw new IllegalArgumentException(
                    "Java could not read --text; set LC_ALL to a UTF-8 locale");
        }
        return flags;
    }

    private static int positive(Map<String, String> flags, String name) {
        int number = Integer.parseInt(flags.get(name));
        if (number < 1) {
            throw new IllegalArgumentException(name + " has to be at least 1");
        }
        return number;
    }

    private static String twelveDigits(long number) {
        return Long.toHexString(1L << 48 | number).substring(1);
    }

    /** Returns a JSON string. */
    private static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < ' ') {
                out.append(String.format(Locale.ROOT, "\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        return out.append('"').toString();
    }

    /** Returns the broker's own words, where there are some. */
    private static String reason(Throwable error) {
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (cause instanceof ShutdownSignalException) {
                Method method = ((ShutdownSignalException) cause).getReason();
                if (method instanceof AMQP.Channel.Close) {
                    return ((AMQP.Channel.Close) method).getReplyText();
                }
                if (method instanceof AMQP.Connection.Close) {
                    return ((AMQP.Connection.Close) method).getReplyText();
                }
            }
        }
        return error.getMessage() == null ? error.getClass().getSimpleName() : error.getMessage();
    }

    private static void end(int status, String sentence) {
        System.err.println(sentence.replaceAll("\\p{Cntrl}", "?"));
        System.err.flush();
        Runtime.getRuntime().halt(status);
    }
}
