import Testing

@testable import Terminal

struct TableTests {
  @Test func columnsAreEven() {
    let markdown = """
      # Table
      | Region | Teacher | HAD-Net |
      |---|:--|--:|
      | WT | 90.1 ± 3.2 | 8* |
      | 脑 | – | |

      Words.
      """
    #expect(
      aligned(markdown) == """
        # Table
        | Region |    Teacher | HAD-Net |
        | ------ | :--------- | ------: |
        | WT     | 90.1 ± 3.2 |      8* |
        | 脑     |          – |         |

        Words.
        """)
    #expect(aligned("no table\n") == "no table\n")
  }
}
