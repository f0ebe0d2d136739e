import com.hivemq.embedded.EmbeddedExtension;
import com.hivemq.embedded.EmbeddedHiveMQ;
import com.hivemq.extension.sdk.api.ExtensionMain;
import com.hivemq.extension.sdk.api.auth.SimpleAuthenticator;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartOutput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopOutput;
import com.hivemq.extension.sdk.api.services.Services;
import java.nio.file.Path;

/** Runs HiveMQ Community Edition as a peer of the benchmark: it lets everyone in. */
public final class Broker {
    /** Arguments: configuration directory, data directory. */
    public static void main(String[] arguments) throws Exception {
        SimpleAuthenticator everyone = (input, output) -> output.authenticateSuccessfully();
        ExtensionMain open = new ExtensionMain() {
            @Override
            public void extensionStart(ExtensionStartInput input, ExtensionStartOutput output) {
                Services.securityRegistry().setAuthenticatorProvider(provider -> everyone);
            }

            @Override
            public void extensionStop(ExtensionStopInput input, ExtensionStopOutput output) {}
        };
        EmbeddedHiveMQ broker = EmbeddedHiveMQ.builder()
                .withConfigurationFolder(Path.of(arguments[0]))
                .withDataFolder(Path.of(arguments[1]))
                .withEmbeddedExtension(EmbeddedExtension.builder()
                        .withId("open").withName("open").withVersion("1").withExtensionMain(open).build())
                .build();
        broker.start().join();
        Thread.currentThread().join();
    }
}
