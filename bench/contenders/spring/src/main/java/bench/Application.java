// The contender spring: a Spring Boot application without a web server.
package bench;

import java.net.URI;
import java.util.Collection;
import java.util.concurrent.atomic.AtomicInteger;

import javax.sql.DataSource;

import com.zaxxer.hikari.HikariDataSource;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.common.TopicPartition;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;
import org.springframework.kafka.listener.ConsumerAwareRebalanceListener;

@SpringBootApplication
public class Application {

    public static void main(String[] arguments) {
        SpringApplication.run(Application.class, arguments);
    }

    /** `postgres://user:password@host:port/name`, as all contenders are given it. */
    @Bean
    DataSource dataSource(@Value("${DATABASE_URL}") URI url, @Value("${spring.datasource.hikari.maximum-pool-size}") int size) {
        String[] user = url.getUserInfo().split(":", 2);
        HikariDataSource source = new HikariDataSource();
        source.setJdbcUrl("jdbc:postgresql://" + url.getHost() + ":" + url.getPort() + url.getPath() + "?reWriteBatchedInserts=true");
        source.setUsername(user[0]);
        source.setPassword(user[1]);
        source.setMaximumPoolSize(size);
        return source;
    }

    /** Says that it is ready once every partition of both topics has its listener. */
    @Bean
    ConsumerAwareRebalanceListener readiness(@Value("${PARTITIONS}") int partitions) {
        AtomicInteger missing = new AtomicInteger(2 * partitions);
        return new ConsumerAwareRebalanceListener() {
            @Override
            public void onPartitionsAssigned(Consumer<?, ?> consumer, Collection<TopicPartition> assigned) {
                if (missing.addAndGet(-assigned.size()) == 0) {
                    System.out.println("ready");
                }
            }

            @Override
            public void onPartitionsRevokedAfterCommit(Consumer<?, ?> consumer, Collection<TopicPartition> revoked) {
                missing.addAndGet(revoked.size());
            }
        };
    }
}
