//! The price book.

use crate::fixture::at;
use kubeop_store::price::{self, Price};
use kubeop_store::{Inserted, Taken};
use rust_decimal::Decimal;

fn price_of(meter: &str, from: i64, rate: &str) -> Price {
    let rate = Decimal::from_str_exact(rate).unwrap();
    Price { meter: meter.into(), effective_from: at(from), rate, currency: "USD".into(), origin: price::API.into() }
}

both! {
    async fn rates_are_exact_and_the_book_is_in_order(store) {
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        let rates = ["0.0000002", "0", "79228162514264337593543950335", "0.0000000000000000000000000001", "-1.5"];
        for (n, rate) in rates.iter().enumerate() {
            let from = 100 - i64::try_from(n).unwrap();
            assert_eq!(price::insert(c, &price_of("cpu_milli", from, rate)).await.unwrap(), Inserted::Yes);
        }
        assert_eq!(price::insert(c, &price_of("mem_mib", 98, "1.10")).await.unwrap(), Inserted::Yes);
        let book = price::list(c).await.unwrap();
        let shown: Vec<String> = book.iter().map(|price| format!("{} {}", price.meter, price.rate)).collect();
        let expected = [
            "cpu_milli -1.5",
            "cpu_milli 0.0000000000000000000000000001",
            "cpu_milli 79228162514264337593543950335",
            "mem_mib 1.1",
            "cpu_milli 0",
            "cpu_milli 0.0000002",
        ];
        assert_eq!(shown, expected);
        assert_eq!(book[5], price_of("cpu_milli", 100, "0.0000002"));
    }

    async fn a_price_is_never_changed(store) {
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        let _ = price::insert(c, &price_of("cpu_milli", 1, "1")).await.unwrap();
        assert_eq!(price::insert(c, &price_of("cpu_milli", 1, "2")).await.unwrap(), Inserted::Taken(Taken::Price));
        assert_eq!(price::list(c).await.unwrap(), vec![price_of("cpu_milli", 1, "1")]);
    }
}
