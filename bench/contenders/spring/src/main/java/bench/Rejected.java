// A message that the rules refuse: for the dead letter topic.
package bench;

class Rejected extends RuntimeException {

    private static final long serialVersionUID = 1L;

    Rejected(String code) {
        super(code, null, false, false);
    }
}
